{{/* Names, labels, and what several objects share. */}}

{{- define "penstock.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 50 characters, so that names with a suffix are still names. A release may have a dot in its name, and begin
with a digit; the name of a service may not. */}}
{{- define "penstock.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $release := .Release.Name | replace "." "-" -}}
{{- if regexMatch "^[0-9]" $release -}}
{{- $release = printf "release-%s" $release -}}
{{- end -}}
{{- if contains (include "penstock.name" .) $release -}}
{{- $release | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" $release (include "penstock.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "penstock.selector" -}}
app.kubernetes.io/name: {{ include "penstock.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end -}}

{{- define "penstock.commonLabels" -}}
app.kubernetes.io/part-of: penstock
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Of pods: their own labels come before the common ones. */}}
{{- define "penstock.podLabels" -}}
app.kubernetes.io/part-of: penstock
{{- with merge (dict) .Values.podLabels .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Of an object with labels of its own, as the second of a list after the context. */}}
{{- define "penstock.labelsWith" -}}
{{- $context := index . 0 -}}
{{ include "penstock.selector" $context }}
app.kubernetes.io/part-of: penstock
{{ include "penstock.releaseLabels" $context }}
{{- with merge (dict) (index . 1) $context.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Of the release; not of pods, which would start again for a new chart with the same content. */}}
{{- define "penstock.releaseLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "penstock.labels" -}}
{{ include "penstock.selector" . }}
{{ include "penstock.commonLabels" . }}
{{ include "penstock.releaseLabels" . }}
{{- end -}}

{{- define "penstock.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "penstock.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "penstock.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* "true" if gateways share a database. */}}
{{- define "penstock.isShared" -}}
{{- if or .Values.registry.postgresql .Values.registry.urlSecret -}}true{{- end -}}
{{- end -}}

{{- define "penstock.maxReplicas" -}}
{{- if eq .Values.autoscaling.type "none" }}{{ .Values.replicas }}{{ else }}{{ .Values.autoscaling.maxReplicas }}{{ end -}}
{{- end -}}

{{- define "penstock.tlsSecret" -}}
{{- if .Values.tls.certManager.enabled -}}
{{- default (printf "%s-tls" (include "penstock.fullname" .)) .Values.tls.secretName -}}
{{- else -}}
{{- .Values.tls.secretName -}}
{{- end -}}
{{- end -}}

{{/* Names by which the services, and pods by the headless one, are reached inside the cluster, one on a line. */}}
{{- define "penstock.serviceNames" -}}
{{- $names := list (include "penstock.fullname" .) -}}
{{- if or .Values.service.headless (eq .Values.workload "StatefulSet") -}}
{{- $headless := printf "%s-headless" (include "penstock.fullname" .) -}}
{{- $names = concat $names (list $headless (printf "*.%s" $headless)) -}}
{{- end -}}
{{- if .Values.ops.exposed -}}
{{- $names = append $names (printf "%s-ops" (include "penstock.fullname" .)) -}}
{{- end -}}
{{- range $name := $names }}
{{ $name }}
{{ $name }}.{{ $.Release.Namespace }}
{{ $name }}.{{ $.Release.Namespace }}.svc
{{ $name }}.{{ $.Release.Namespace }}.svc.{{ $.Values.clusterDomain }}
{{- end }}
{{- end -}}

{{/* Hosts that requests may name: those of the services and of the ingress, where hosts are checked at all. */}}
{{- define "penstock.trustedHosts" -}}
{{- $hosts := include "penstock.serviceNames" . | trim | splitList "\n" -}}
{{- range .Values.ingress.hosts }}{{- $hosts = append $hosts .host -}}{{- end -}}
{{- concat $hosts (default (list) .Values.config.trusted_hosts) | uniq | toJson -}}
{{- end -}}

{{/* The configuration file of the gateway. */}}
{{- define "penstock.settings" -}}
{{- $settings := deepCopy .Values.config -}}
{{- if or .Values.config.trusted_hosts (not .Values.config.auth) (dig "auth" "dry_run" false .Values.config) -}}
{{- $_ := set $settings "trusted_hosts" (include "penstock.trustedHosts" . | fromJsonArray) -}}
{{- end -}}
{{- if include "penstock.tlsSecret" . -}}
{{- $_ := set $settings "tls" (dict "certificate_file" "/etc/penstock/tls/tls.crt" "key_file" "/etc/penstock/tls/tls.key" "client" .Values.tls.client) -}}
{{- end -}}
{{- if and (include "penstock.isShared" .) (not (dig "monitor" "gateways" 0 .Values.config)) -}}
{{- $surge := ternary 1 0 (eq .Values.workload "Deployment") -}}
{{- $gateways := add (include "penstock.maxReplicas" . | int) $surge -}}
{{- $_ := set $settings "monitor" (merge (dict "gateways" $gateways) (default (dict) .Values.config.monitor)) -}}
{{- end -}}
{{- toPrettyJson $settings -}}
{{- end -}}

{{/* Seconds from SIGTERM to SIGKILL: both drains, a sleep before them, and a margin. */}}
{{- define "penstock.graceSeconds" -}}
{{- $stop := .Values.config.stop -}}
{{- $sleep := dig "preStop" "sleep" "seconds" 0 .Values.lifecycle -}}
{{- $drains := addf ($stop.drain_delay_seconds) ($stop.drain_timeout_seconds) | ceil | int -}}
{{- add $drains $sleep .Values.terminationMarginSeconds -}}
{{- end -}}

{{/* Mebibytes of /dev/shm that the workers need. */}}
{{- define "penstock.neededSharedMemory" -}}
{{- add 64 (mul 9 (.Values.config.workers | int)) -}}
{{- end -}}

{{- define "penstock.sharedMemory" -}}
{{- default (printf "%sMi" (include "penstock.neededSharedMemory" .)) .Values.sharedMemory.sizeLimit -}}
{{- end -}}

{{/* A quantity in mebibytes; nothing for a unit that nobody measures memory in. */}}
{{- define "penstock.mebibytes" -}}
{{- $units := dict "" 0.00000095367431640625 "k" 0.00095367431640625 "Ki" 0.0009765625 "M" 0.95367431640625 "Mi" 1.0 "G" 953.67431640625 "Gi" 1024.0 "T" 953674.31640625 "Ti" 1048576.0 -}}
{{- $unit := regexFind "[A-Za-z]*$" (toString .) -}}
{{- if hasKey $units $unit -}}
{{- mulf (trimSuffix $unit (toString .) | float64) (get $units $unit) -}}
{{- end -}}
{{- end -}}

{{/* The database, by reference to secrets. */}}
{{- define "penstock.registryEnv" -}}
{{- with .Values.registry.urlSecret }}
- name: PENSTOCK_REGISTRY
  valueFrom: {secretKeyRef: {name: {{ .name | quote }}, key: {{ .key | quote }}}}
{{- end }}
{{- with .Values.registry.postgresql }}
- name: PENSTOCK_REGISTRY
  value: {{ printf "postgresql://%s@%s:%d/%s?sslmode=%s" (urlquery .user) .host (int .port) (urlquery .database) .sslmode | quote }}
{{- with .caSecret }}
- name: PGSSLROOTCERT
  value: /etc/penstock/database/ca.crt
{{- end }}
{{- with .passwordSecret }}
- name: PGPASSWORD
  valueFrom: {secretKeyRef: {name: {{ .name | quote }}, key: {{ .key | quote }}}}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "penstock.envFrom" -}}
{{- with .Values.envFromSecrets }}
envFrom:
{{- range . }}
  - secretRef: {name: {{ . | quote }}}
{{- end }}
{{- end }}
{{- end -}}

{{- define "penstock.databaseVolume" -}}
{{- with dig "postgresql" "caSecret" (dict) .Values.registry }}
- name: database-ca
  secret:
    secretName: {{ .name | quote }}
    defaultMode: 0440
    items: [{key: {{ .key | quote }}, path: ca.crt}]
{{- end }}
{{- end -}}

{{- define "penstock.databaseMount" -}}
{{- if dig "postgresql" "caSecret" (dict) .Values.registry }}
- {name: database-ca, mountPath: /etc/penstock/database, readOnly: true}
{{- end }}
{{- end -}}

{{/* The address of a database (registry.urlSecret) may name a file in them, so the migration has them then, too. */}}
{{- define "penstock.secretVolumes" -}}
{{- range $name, $secret := .Values.secretMounts }}
- name: secret-{{ $name }}
  secret: {secretName: {{ $secret | quote }}, defaultMode: 0440}
{{- end }}
{{- end -}}

{{- define "penstock.secretMounts" -}}
{{- range $name, $secret := .Values.secretMounts }}
- {name: secret-{{ $name }}, mountPath: /run/secrets/penstock/{{ $name }}, readOnly: true}
{{- end }}
{{- end -}}

{{/* Names of the pods of this release, and not of one whose name begins in the same way. Kubernetes cuts long names, so the
     hash of a Deployment's pods may run into their last part. */}}
{{- define "penstock.podPattern" -}}
{{- $end := ternary "[a-z0-9]+(-[a-z0-9]{5})?" "[0-9]+" (eq .Values.workload "Deployment") -}}
{{- printf "%s-%s" (include "penstock.fullname" .) $end -}}
{{- end -}}

{{/* Utilisation of the concurrency limit by the busiest model, over all pods of the release. */}}
{{- define "penstock.utilizationQuery" -}}
{{- $pods := printf "namespace=\"%s\",pod=~\"%s\"" .Release.Namespace (include "penstock.podPattern" .) -}}
max(sum by (model) (penstock_inflight_requests{ {{- $pods -}} }) / sum by (model) (penstock_concurrency_limit{ {{- $pods -}} } > 0))
{{- end -}}
