{{/* The pod of the gateway, the same in a Deployment and in a StatefulSet. */}}
{{- define "penstock.pod" -}}
metadata:
  labels:
    {{- include "penstock.selector" . | nindent 4 }}
    {{- include "penstock.podLabels" . | nindent 4 }}
  annotations:
    checksum/config: {{ include "penstock.settings" . | sha256sum }}
    kubectl.kubernetes.io/default-container: penstock
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "penstock.serviceAccount" . }}
  automountServiceAccountToken: {{ .Values.serviceAccount.automountToken }}
  # Variables of services, such as PENSTOCK_HTTP_PORT of a service penstock-http, would be settings.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "penstock.graceSeconds" . }}
  {{- with .Values.podSecurityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with .Values.dnsConfig }}
  dnsConfig:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    - {{ toYaml . | nindent 6 | trim }}
      {{- if not .labelSelector }}
      labelSelector:
        matchLabels:
          {{- include "penstock.selector" $ | nindent 10 }}
      matchLabelKeys: [{{ ternary "pod-template-hash" "controller-revision-hash" (eq $.Values.workload "Deployment") }}]
      {{- end }}
    {{- end }}
  {{- end }}
  {{- with .Values.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: penstock
      image: {{ include "penstock.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve]
      env:
        # Variables, since those of the image come before the file.
        - {name: PENSTOCK_CONFIG, value: /etc/penstock/config/penstock.yaml}
        - {name: PENSTOCK_HOME, value: /var/lib/penstock/home}
        - {name: PENSTOCK_HOST, value: {{ .Values.bindAddress | quote }}}
        - {name: PENSTOCK_OPS_HOST, value: {{ ternary .Values.bindAddress "127.0.0.1" .Values.ops.exposed | quote }}}
        - {name: PENSTOCK_HEALTH_HOST, value: {{ .Values.bindAddress | quote }}}
        - {name: PENSTOCK_HEALTH_PORT, value: "8003"}
        {{- include "penstock.registryEnv" . | nindent 8 }}
      {{- include "penstock.envFrom" . | nindent 6 }}
      ports:
        - {name: http, containerPort: 8000, protocol: TCP}
        - {name: grpc, containerPort: 8001, protocol: TCP}
        {{- if .Values.ops.exposed }}
        - {name: ops, containerPort: 8002, protocol: TCP}
        {{- end }}
        - {name: health, containerPort: 8003, protocol: TCP}
      # The health port answers probes without credentials and without TLS. Not ready while a bucket is away at the start is no
      # reason to start again, so only /livez restarts a pod.
      startupProbe:
        httpGet: {path: /livez, port: health}
        {{- toYaml .Values.probes.startup | nindent 8 }}
      readinessProbe:
        httpGet: {path: /readyz, port: health}
        {{- toYaml .Values.probes.readiness | nindent 8 }}
      livenessProbe:
        httpGet: {path: /livez, port: health}
        {{- toYaml .Values.probes.liveness | nindent 8 }}
      {{- with .Values.lifecycle }}
      lifecycle:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.securityContext }}
      securityContext:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - {name: config, mountPath: /etc/penstock/config, readOnly: true}
        - {name: home, mountPath: /var/lib/penstock}
        - {name: shared-memory, mountPath: /dev/shm}
        - {name: temporary, mountPath: /tmp}
        {{- if include "penstock.tlsSecret" . }}
        - {name: tls, mountPath: /etc/penstock/tls, readOnly: true}
        {{- end }}
        {{- include "penstock.databaseMount" . | nindent 8 }}
        {{- include "penstock.secretMounts" . | nindent 8 }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ include "penstock.fullname" . }}}
    {{- if eq .Values.workload "Deployment" }}
    - name: home
      {{- if .Values.persistence.enabled }}
      persistentVolumeClaim: {claimName: {{ default (printf "%s-home" (include "penstock.fullname" .)) .Values.persistence.existingClaim }}}
      {{- else }}
      emptyDir: {}
      {{- end }}
    {{- end }}
    # The processes of a gateway share what they count here; 64 MB, as without a volume, are enough for six workers.
    - name: shared-memory
      emptyDir: {medium: Memory, sizeLimit: {{ include "penstock.sharedMemory" . }}}
    - name: temporary
      emptyDir: {sizeLimit: {{ .Values.temporary.sizeLimit }}}
    {{- with include "penstock.tlsSecret" . }}
    - name: tls
      secret: {secretName: {{ . | quote }}, defaultMode: 0440}
    {{- end }}
    {{- include "penstock.databaseVolume" . | nindent 4 }}
    {{- include "penstock.secretVolumes" . | nindent 4 }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
