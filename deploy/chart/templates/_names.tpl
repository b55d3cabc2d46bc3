{{- define "millrace.image" -}}
{{- $image := .Values.image -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}{{ with $image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- /* What pods need that are to run on each node, before it is ready. */ -}}
{{- define "millrace.placement" -}}
priorityClassName: {{ .Values.priorityClassName }}
# a node without a network is not ready, and this is what it lacks
tolerations: {{- toYaml .Values.tolerations | nindent 0 }}
nodeSelector: {{- toYaml .Values.nodeSelector | nindent 2 }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
- {name: {{ . }}}
{{- end }}
{{- end }}
{{- end }}

{{- /* An IPv6 address is bracketed beside a port (RFC 3986 section 3.2.2). */ -}}
{{- define "millrace.metrics" -}}
{{- $at := .Values.metrics.address -}}
{{ if contains ":" $at }}[{{ $at }}]{{ else }}{{ $at }}{{ end }}:{{ .Values.metrics.port }}
{{- end }}

{{- /* Where its node's kubelet finds it. */ -}}
{{- define "millrace.probed" -}}
{{- $at := .Values.metrics.address -}}
{{ if eq $at "0.0.0.0" }}127.0.0.1{{ else if eq $at "::" }}"::1"{{ else }}{{ quote $at }}{{ end }}
{{- end }}
