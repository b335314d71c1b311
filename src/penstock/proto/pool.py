"""The descriptor pool of these stubs alone.

The default pool takes each full message name once per process, and every client library of this protocol brings
its own copy of ``inference.*``; with a pool of their own the two can live in one process.
"""

from google.protobuf.descriptor_pool import DescriptorPool

POOL = DescriptorPool()
