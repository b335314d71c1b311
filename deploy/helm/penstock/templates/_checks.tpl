{{/* What a schema cannot say in a sentence that helps. */}}
{{- define "penstock.check" -}}
{{- $config := .Values.config -}}
{{- $guarded := and $config.auth (not (dig "auth" "dry_run" false $config)) (include "penstock.tlsSecret" .) -}}
{{- if and (not $guarded) (not $config.insecure_no_auth) -}}
{{- fail "say who may use the gateway: set config.auth and a certificate (tls.secretName or tls.certManager), or, on a network that you trust, config.insecure_no_auth: true" -}}
{{- end -}}
{{- if and (dig "auth" "mtls" false $config) (not (include "penstock.tlsSecret" .)) -}}
{{- fail "config.auth.mtls needs a certificate: tls.secretName or tls.certManager" -}}
{{- end -}}
{{- if and .Values.ops.exposed (not $guarded) (or (not .Values.networkPolicy.enabled) (not .Values.networkPolicy.opsFrom)) -}}
{{- fail "ops.exposed without config.auth lets every pod change what is served: set networkPolicy.enabled and networkPolicy.opsFrom, or config.auth and a certificate" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled .Values.ops.exposed (not .Values.networkPolicy.opsFrom) -}}
{{- fail "ops.exposed needs networkPolicy.opsFrom: who may connect to the ops port, such as the namespace of Prometheus" -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled (not .Values.ops.exposed) -}}
{{- fail "serviceMonitor.enabled needs ops.exposed: true, since metrics are on the ops port" -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled $config.auth (not .Values.serviceMonitor.tokenSecret) -}}
{{- fail "serviceMonitor.enabled with config.auth needs serviceMonitor.tokenSecret: a token with the role metrics" -}}
{{- end -}}
{{- $folder := $config.models -}}
{{- $isKept := or .Values.persistence.enabled (eq .Values.workload "StatefulSet") -}}
{{- if not (or (include "penstock.isShared" .) $isKept $folder) -}}
{{- fail "the registry would end with the pod: set registry (PostgreSQL), persistence.enabled, workload: StatefulSet, or config.models" -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if hasPrefix "PENSTOCK_" .name -}}
{{- fail (printf "extraEnv has %s: state settings in config, or by the values of the chart, which the ports, times and memory of the pod follow from" .name) -}}
{{- end -}}
{{- end -}}
{{- $shared := include "penstock.mebibytes" (include "penstock.sharedMemory" .) -}}
{{- if and $shared (lt (float64 $shared) (include "penstock.neededSharedMemory" . | float64)) -}}
{{- fail (printf "sharedMemory.sizeLimit is less than the %sMi that config.workers need" (include "penstock.neededSharedMemory" .)) -}}
{{- end -}}
{{- $limit := include "penstock.mebibytes" (dig "limits" "memory" "none" (default (dict) .Values.resources)) -}}
{{- if and $shared $limit (ge (float64 $shared) (float64 $limit)) -}}
{{- fail (printf "resources.limits.memory has no room beside the %s of /dev/shm, which count as memory of the container" (include "penstock.sharedMemory" .)) -}}
{{- end -}}
{{- if and (dig "auth" "keys" false $config) (not (or (include "penstock.isShared" .) $isKept)) -}}
{{- fail "the keys of config.auth.keys are in the registry, which would end with the pod: set registry (PostgreSQL), persistence.enabled or workload: StatefulSet" -}}
{{- end -}}
{{- if and (ne .Values.autoscaling.type "none") (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling.minReplicas is more than autoscaling.maxReplicas" -}}
{{- end -}}
{{- if and (eq .Values.workload "Deployment") (eq "00" (printf "%v%v" .Values.strategy.maxSurge .Values.strategy.maxUnavailable | replace "%" "")) -}}
{{- fail "strategy.maxSurge and strategy.maxUnavailable are both 0: no pod could be replaced" -}}
{{- end -}}
{{- if and .Values.podDisruptionBudget.enabled (eq 0 (printf "%v" .Values.podDisruptionBudget.maxUnavailable | trimSuffix "%" | int)) -}}
{{- fail "podDisruptionBudget.maxUnavailable is 0: no node with a gateway could be drained; state 1 or more, or set podDisruptionBudget.enabled: false" -}}
{{- end -}}
{{- if and .Values.persistence.enabled (eq .Values.workload "Deployment") (gt (include "penstock.maxReplicas" . | int) 1) -}}
{{- fail "persistence of several gateways needs workload: StatefulSet, which gives each a volume of its own" -}}
{{- end -}}
{{- if and .Values.persistence.existingClaim (eq .Values.workload "StatefulSet") -}}
{{- fail "persistence.existingClaim is for workload: Deployment" -}}
{{- end -}}
{{- if and (eq .Values.autoscaling.type "keda") (not .Values.autoscaling.keda.serverAddress) -}}
{{- fail "autoscaling.type: keda needs autoscaling.keda.serverAddress, the address of Prometheus" -}}
{{- end -}}
{{- if and .Values.tls.certManager.enabled (not .Values.tls.certManager.issuerRef.name) -}}
{{- fail "tls.certManager.enabled needs tls.certManager.issuerRef.name" -}}
{{- end -}}
{{- end -}}
