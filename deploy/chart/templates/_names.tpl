{{- define "millrace.image" -}}
{{- $image := .Values.image -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}{{ with $image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- /* What pods need that are to run on each node, before it is ready. */ -}}
{{- define "millrace.placement" -}}
priorityClassName: {{ .Values.priorityClassName }}
{{- with .Values.tolerations }}
# a node without a network is not ready, and this is what it lacks
tolerations: {{- toYaml . | nindent 0 }}
{{- end }}
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

{{- /* What a container may do to its node: what it takes, and not what privileged ones may. */ -}}
{{- define "millrace.privileges" -}}
capabilities:
  drop: [ALL]
  add:
  # links, addresses, routes and sysctls of the node and of pods; programs and sockets at links
  - NET_ADMIN
  # AF_XDP sockets
  - NET_RAW
  # programs and maps in the kernel
  - BPF
  # entering the namespaces of pods; programs at cgroups; what kernels before 5.19 ask for BPF's sake
  - SYS_ADMIN
  # entering the cgroup namespace of the node
  - SYS_PTRACE
  # packet memory, which stays where it is
  - IPC_LOCK
  # workers come before what can wait
  - SYS_NICE
# as a service of the node that is confined by these alone
appArmorProfile: {type: Unconfined}
seLinuxOptions: {type: spc_t}
seccompProfile: {type: RuntimeDefault}
readOnlyRootFilesystem: true
{{- end }}

{{- /* What takes an agent's traces away is told where they are: after a boot nobody remembers. */ -}}
{{- define "millrace.cleanup" -}}
- cleanup
- --host-proc=/host/proc
{{ include "millrace.installed" . }}
{{- range .Values.arguments }}
{{- if or (hasPrefix "--pins=" .) (hasPrefix "--socket=" .) }}
- {{ quote . }}
{{- end }}
{{- end }}
{{- end }}

{{- /* What an agent puts into folders of its node. */ -}}
{{- define "millrace.installed" -}}
- --cni-bin-dir={{ .Values.cni.binDir }}
- --conflist={{ .Values.cni.confDir }}/05-millrace.conflist
- --module-cache=/var/lib/millrace/modules
- --kept-objects=/var/lib/millrace/objects
- --kept-filters=/var/lib/millrace/filters
{{- end }}

{{- /* Where a container sees of its node what it would see in its own /proc if it were privileged. */ -}}
{{- define "millrace.host" -}}
# the settings of the network, of the node's and of pods'
- {name: sysctls, mountPath: /host/proc/sys/net}
# the node's cgroup namespace
- {name: namespace, mountPath: /host/proc/1/ns, readOnly: true}
{{- end }}
{{- define "millrace.host.volumes" -}}
- {name: sysctls, hostPath: {path: /proc/sys/net, type: Directory}}
- {name: namespace, hostPath: {path: /proc/1/ns, type: Directory}}
{{- end }}
