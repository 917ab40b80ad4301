{{/*
The StatefulSet of one kind of process.

root        the chart's context
command     the command of imagetools: encoder, search, …
name        of the StatefulSet, after the release's name
values      its part of the values
env         its own variables, a list
dir         the folder that it keeps its state in; empty: none
features    whether it uses features on disk
images      whether it reads the images
probePort   the name of the port of its probes
ports       by name
*/}}
{{- define "imagetools.process" -}}
{{- $ := .root -}}
{{- $values := .values -}}
{{- $full := include "imagetools.fullname" $ -}}
{{- $features := "/home/solver/features" -}}
{{- $shared := not (empty (and .features $.Values.features.volume)) -}}
{{- /* a volume that the node's processes share takes the place of one's own */ -}}
{{- $dir := ternary "" .dir (and $shared (eq .dir $features)) -}}
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ $full }}-{{ .name }}
  labels:
    {{- include "imagetools.labels" $ | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
spec:
  {{- if not (dig "autoscaling" "enabled" false $values) }}
  replicas: {{ $values.replicas }}
  {{- end }}
  serviceName: {{ $full }}
  # processes of one kind start side by side; an update still goes from one to the next when it is ready
  podManagementPolicy: Parallel
  updateStrategy:
    type: RollingUpdate
  selector:
    matchLabels:
      {{- include "imagetools.selector" $ | nindent 6 }}
      app.kubernetes.io/component: {{ .name }}
  template:
    metadata:
      labels:
        {{- include "imagetools.selector" $ | nindent 8 }}
        app.kubernetes.io/component: {{ .name }}
        {{- with $.Values.pod.labels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        # new settings restart the processes
        checksum/settings: {{ toJson $.Values.settings | sha256sum }}
        {{- with $.Values.pod.annotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- with $.Values.pod.serviceAccountName }}
      serviceAccountName: {{ . }}
      {{- end }}
      automountServiceAccountToken: false
      # a Service called metrics or kafka would set variables that are settings here
      enableServiceLinks: false
      # time to commit the current batch
      terminationGracePeriodSeconds: 30
      {{- with $.Values.pod.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $.Values.pod.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $.Values.pod.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $.Values.pod.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "imagetools.selector" $ | nindent 14 }}
              app.kubernetes.io/component: {{ .name }}
      securityContext:
        {{- include "imagetools.podSecurity" $ | nindent 8 }}
      containers:
        - name: {{ .command }}
          image: {{ include "imagetools.image" $ | quote }}
          imagePullPolicy: {{ $.Values.image.pullPolicy }}
          args: [{{ .command }}]
          securityContext:
            {{- include "imagetools.containerSecurity" $ | nindent 12 }}
          envFrom:
            - configMapRef:
                name: {{ $full }}-settings
          env:
            # caches and logs of libraries go to the temporary folder
            - name: HOME
              value: /tmp
            {{- if .images }}
            - name: IMAGES_DIR
              value: {{ $.Values.images.dir | quote }}
            {{- end }}
            {{- if or $shared (eq $dir $features) }}
            - name: FEATURES_DIR
              value: {{ $features }}
            {{- end }}
            {{- with .env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
            {{- range $name, $value := $values.settings }}
            - name: {{ $name }}
              value: {{ include "imagetools.text" $value | quote }}
            {{- end }}
            {{- include "imagetools.secretEnv" $ | nindent 12 }}
          ports:
            {{- range $name, $port := .ports }}
            - name: {{ $name }}
              containerPort: {{ $port }}
            {{- end }}
          # loading its libraries and the model takes seconds
          startupProbe:
            httpGet: {path: /healthz, port: {{ .probePort }}}
            periodSeconds: 2
            failureThreshold: 60
          # 503 after five minutes in which its loop has not turned
          livenessProbe:
            httpGet: {path: /healthz, port: {{ .probePort }}}
            periodSeconds: 10
            timeoutSeconds: 5
          readinessProbe:
            httpGet: {path: /readyz, port: {{ .probePort }}}
            periodSeconds: 5
            timeoutSeconds: 5
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          volumeMounts:
            - name: tmp
              mountPath: /tmp
            {{- if $dir }}
            - name: state
              mountPath: {{ $dir }}
            {{- end }}
            {{- if $shared }}
            - name: features
              mountPath: {{ $features }}
            {{- end }}
            {{- if and .images $.Values.images.volume }}
            - name: images
              mountPath: {{ $.Values.images.dir }}
              readOnly: true
            {{- end }}
            {{- if and (eq .command "encoder") $.Values.models.volume }}
            - name: models
              mountPath: /home/solver/models
              readOnly: true
            {{- end }}
            {{- if $.Values.tlsSecret }}
            - name: tls
              mountPath: /etc/imagetools/tls
              readOnly: true
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {}
        {{- if $shared }}
        - name: features
          {{- toYaml $.Values.features.volume | nindent 10 }}
        {{- end }}
        {{- if and $dir (not $values.storage.persistent) }}
        - name: state
          emptyDir:
            sizeLimit: {{ $values.storage.size }}
        {{- end }}
        {{- if and .images $.Values.images.volume }}
        - name: images
          {{- toYaml $.Values.images.volume | nindent 10 }}
        {{- end }}
        {{- if and (eq .command "encoder") $.Values.models.volume }}
        - name: models
          {{- toYaml $.Values.models.volume | nindent 10 }}
        {{- end }}
        {{- if $.Values.tlsSecret }}
        - name: tls
          secret:
            secretName: {{ $.Values.tlsSecret }}
        {{- end }}
  {{- if and $dir $values.storage.persistent }}
  volumeClaimTemplates:
    - apiVersion: v1
      kind: PersistentVolumeClaim
      metadata:
        name: state
      spec:
        accessModes: [ReadWriteOnce]
        {{- with $values.storage.storageClassName }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests:
            storage: {{ $values.storage.size }}
  {{- end }}
{{- end }}

{{/* What the processes of the stages have in common: a name that stays, and metrics. */}}
{{- define "imagetools.stageEnv" -}}
- name: MEMBER_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: METRICS_PORT
  value: "9200"
- name: METRICS_HOST
  value: 0.0.0.0
{{- end }}
