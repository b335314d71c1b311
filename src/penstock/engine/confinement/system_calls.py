"""The numbers of system calls on the processors for which there is a filter (``asm/unistd.h``)."""

import os
from typing import Final

AUDIT_ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""The name of an architecture in a filter, as ``linux/audit.h`` defines it."""

_COMMON: Final = {
    "pidfd_send_signal": 424,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_open": 434,
    "clone3": 435,
    "openat2": 437,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "memfd_secret": 447,
    "process_mrelease": 448,
    "fchmodat2": 452,
    "statmount": 457,
    "listmount": 458,
    "setxattrat": 463,
    "removexattrat": 466,
    "open_tree_attr": 467,
}
"""From 424 on, the numbers are the same on all processors."""

# name, number on x86-64, number on AArch64 (- for none)
_TABLE: Final = """
execve 59 221
execveat 322 281
fork 57 -
vfork 58 -
clone 56 220
unshare 272 97
setns 308 268
ptrace 101 117
process_vm_readv 310 270
process_vm_writev 311 271
kcmp 312 272
bpf 321 280
perf_event_open 298 241
seccomp 317 277
userfaultfd 323 282
personality 135 92
modify_ldt 154 -
mount 165 40
umount2 166 39
pivot_root 155 41
chroot 161 51
uselib 134 -
keyctl 250 219
add_key 248 217
request_key 249 218
kexec_load 246 104
kexec_file_load 320 294
init_module 175 105
finit_module 313 273
delete_module 176 106
reboot 169 142
swapon 167 224
swapoff 168 225
acct 163 89
quotactl 179 60
settimeofday 164 170
clock_settime 227 112
clock_adjtime 305 266
adjtimex 159 171
sethostname 170 161
setdomainname 171 162
iopl 172 -
ioperm 173 -
syslog 103 116
vhangup 153 58
lookup_dcookie 212 18
name_to_handle_at 303 264
open_by_handle_at 304 265
fanotify_init 300 262
mknod 133 -
mknodat 259 33
setuid 105 146
setgid 106 144
setreuid 113 145
setregid 114 143
setgroups 116 159
setresuid 117 147
setresgid 119 149
setfsuid 122 151
setfsgid 123 152
capset 126 91
move_pages 279 239
migrate_pages 256 238
chmod 90 -
fchmod 91 52
fchmodat 268 53
chown 92 -
lchown 94 -
fchown 93 55
fchownat 260 54
setxattr 188 5
lsetxattr 189 6
fsetxattr 190 7
removexattr 197 14
lremovexattr 198 15
fremovexattr 199 16
truncate 76 45
unlink 87 -
unlinkat 263 35
rename 82 -
renameat 264 38
renameat2 316 276
mkdir 83 -
mkdirat 258 34
rmdir 84 -
link 86 -
linkat 265 37
symlink 88 -
symlinkat 266 36
utime 132 -
utimes 235 -
futimesat 261 -
utimensat 280 88
kill 62 129
tkill 200 130
tgkill 234 131
rt_sigqueueinfo 129 138
rt_tgsigqueueinfo 297 240
prlimit64 302 261
ioctl 16 29
socket 41 198
socketpair 53 199
connect 42 203
bind 49 200
listen 50 201
accept 43 202
accept4 288 242
open 2 -
creat 85 -
openat 257 56
"""


def read_numbers(machine: str) -> dict[str, int]:
    """Return the numbers of system calls by name; empty for another processor than those with a filter."""
    if machine not in AUDIT_ARCHITECTURES:
        return {}
    column = list(AUDIT_ARCHITECTURES).index(machine) + 1
    rows = (line.split() for line in _TABLE.split("\n") if line)
    return {**_COMMON, **{row[0]: int(row[column]) for row in rows if row[column] != "-"}}


def find_machine() -> str:
    """Return the name of this machine's processor."""
    return os.uname().machine
