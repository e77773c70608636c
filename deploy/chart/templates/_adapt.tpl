{{/*
The chart's objects are those of the plain manifests, read from files/manifests,
which are the same files; what values change is changed here. So the two cannot
drift apart, and what is not mentioned here is what the manifests say.

herald.text: a file with the names that values choose.
*/}}
{{- define "herald.text" -}}
{{- $v := .root.Values -}}
{{- .text
  | replace "kubernetes.io/metadata.name: ingress-nginx" (printf "kubernetes.io/metadata.name: %s" $v.networkPolicies.ingressNamespace)
  | replace "kubernetes.io/metadata.name: monitoring" (printf "kubernetes.io/metadata.name: %s" $v.networkPolicies.monitoringNamespace)
  | replace "herald.example.com" $v.ingress.host
  | replace "ghcr.io/herald-push/ingest:0.3.0" (printf "%s/ingest:%s" $v.image.registry (default .root.Chart.AppVersion $v.image.tag))
  | replace "ghcr.io/herald-push/gateway:0.3.0" (printf "%s/gateway:%s" $v.image.registry (default .root.Chart.AppVersion $v.image.tag))
  | replace "ghcr.io/herald-push/logger:0.3.0" (printf "%s/logger:%s" $v.image.registry (default .root.Chart.AppVersion $v.image.tag))
  | replace "ghcr.io/herald-push/admin:0.3.0" (printf "%s/admin:%s" $v.image.registry (default .root.Chart.AppVersion $v.image.tag))
  | replace "image: nats:2.15-alpine" (printf "image: %s" $v.nats.image)
-}}
{{- end -}}

{{/* herald.wanted: "yes" if an object is to be made. */}}
{{- define "herald.wanted" -}}
{{- $v := .root.Values -}}
{{- $part := dig "metadata" "labels" "app.kubernetes.io/name" "" .object -}}
{{- $off := or
  (and (eq .object.kind "Namespace") (not $v.namespace.create))
  (and (eq .object.kind "Ingress") (not $v.ingress.enabled))
  (and (eq .object.kind "NetworkPolicy") (not $v.networkPolicies.enabled))
  (and (eq $part "nats") (not $v.nats.enabled))
  (and (eq $part "logger") (not $v.logger.enabled))
  (and (eq $part "admin") (not $v.admin.enabled))
  (and (eq .object.kind "HorizontalPodAutoscaler") (not (dig $part "autoscaling" "enabled" true (fromYaml (toYaml .root.Values)))))
-}}
{{- if not $off }}yes{{ end -}}
{{- end -}}

{{/* herald.adapt: changes an object by the values. */}}
{{- define "herald.adapt" -}}
{{- $v := .root.Values -}}
{{- $o := .object -}}
{{- $part := dig "metadata" "labels" "app.kubernetes.io/name" "" $o -}}
{{- if eq $o.kind "Namespace" -}}
  {{- $_ := set $o.metadata "name" .root.Release.Namespace -}}
{{- else -}}
  {{- $_ := set $o.metadata "namespace" .root.Release.Namespace -}}
{{- end -}}
{{- $_ := set $o.metadata "labels" (merge (dict "app.kubernetes.io/managed-by" .root.Release.Service "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version)) $o.metadata.labels) -}}
{{- if and (eq $o.kind "ConfigMap") (eq $o.metadata.name "herald") -}}
  {{- $_ := set $o "data" (printf "%s\n" (include "herald.config" .root) | fromYaml) -}}
{{- else if and (eq $o.kind "ConfigMap") (eq $o.metadata.name "nats") -}}
  {{- $_ := set $o "data" (printf "%s\n" (include "herald.nats" .root) | fromYaml) -}}
{{- else if eq $o.kind "HorizontalPodAutoscaler" -}}
  {{- $scaling := (index $v $part).autoscaling -}}
  {{- $_ := set $o.spec "minReplicas" $scaling.minReplicas -}}
  {{- $_ := set $o.spec "maxReplicas" $scaling.maxReplicas -}}
{{- else if eq $o.kind "Ingress" -}}
  {{- $_ := set $o.spec "ingressClassName" $v.ingress.className -}}
  {{- with $v.ingress.annotations }}{{ $_ := set $o.metadata "annotations" (merge (deepCopy .) (default dict $o.metadata.annotations)) }}{{ end -}}
  {{- if $v.ingress.tlsSecret }}{{ $_ := set (index $o.spec.tls 0) "secretName" $v.ingress.tlsSecret }}{{ else }}{{ $_ := unset $o.spec "tls" }}{{ end -}}
{{- else if has $o.kind (list "Deployment" "StatefulSet") -}}
  {{- include "herald.workload" (dict "root" .root "object" $o "values" (index $v $part) "part" $part) -}}
{{- end -}}
{{- end -}}

{{/* herald.workload: changes a Deployment or StatefulSet. */}}
{{- define "herald.workload" -}}
{{- $v := .root.Values -}}
{{- $pod := .object.spec.template -}}
{{- $c := index $pod.spec.containers 0 -}}
{{- $config := include (ternary "herald.nats" "herald.config" (eq .part "nats")) .root -}}
{{- /* What pods read when they start is in their template: a change rolls those that it concerns. */ -}}
{{- $_ := set $pod.metadata "annotations" (merge (dict "herald.io/config" ($config | sha256sum)) (deepCopy (default dict .values.podAnnotations)) (default dict $pod.metadata.annotations)) -}}
{{- if eq .part "nats" -}}
  {{- $_ := set .object.spec "replicas" $v.nats.replicas -}}
{{- else if and (has .part (list "ingest" "gateway")) (not .values.autoscaling.enabled) -}}
  {{- $_ := set .object.spec "replicas" .values.replicas -}}
{{- end -}}
{{- with .values.resources }}{{ $_ := set $c "resources" . }}{{ end -}}
{{- with .values.extraEnv }}{{ $_ := set $c "env" (concat $c.env .) }}{{ end -}}
{{- with .values.nodeSelector }}{{ $_ := set $pod.spec "nodeSelector" . }}{{ end -}}
{{- with .values.tolerations }}{{ $_ := set $pod.spec "tolerations" . }}{{ end -}}
{{- with .values.priorityClassName }}{{ $_ := set $pod.spec "priorityClassName" . }}{{ end -}}
{{- with $v.image.pullPolicy }}{{ $_ := set $c "imagePullPolicy" . }}{{ end -}}
{{- if $v.image.pullSecrets -}}
  {{- $secrets := list }}{{ range $v.image.pullSecrets }}{{ $secrets = append $secrets (dict "name" .) }}{{ end -}}
  {{- $_ := set $pod.spec "imagePullSecrets" $secrets -}}
{{- end -}}
{{- range $c.env -}}
  {{- $ref := dig "valueFrom" "secretKeyRef" "name" "" . -}}
  {{- if eq $ref "herald" }}{{ $_ := set .valueFrom.secretKeyRef "name" $v.secret.name }}{{ end -}}
  {{- if eq $ref "herald-nats-server" }}{{ $_ := set .valueFrom.secretKeyRef "name" $v.tls.nats.serverSecret }}{{ end -}}
{{- end -}}
{{- range $pod.spec.volumes -}}
  {{- $ref := dig "secret" "secretName" "" . -}}
  {{- if eq $ref "herald-nats" }}{{ $_ := set .secret "secretName" $v.tls.nats.clientSecret }}{{ end -}}
  {{- if eq $ref "herald-nats-server" }}{{ $_ := set .secret "secretName" $v.tls.nats.serverSecret }}{{ end -}}
{{- end -}}
{{- range .object.spec.volumeClaimTemplates -}}
  {{- $_ := set .spec.resources.requests "storage" $.values.storage.size -}}
  {{- if $.values.storage.className }}{{ $_ := set .spec "storageClassName" $.values.storage.className }}{{ end -}}
{{- end -}}
{{- if and (eq .part "nats") $v.tls.nats.enabled -}}
  {{- $_ := set $c.livenessProbe.exec "command" (list "sh" "-c" "sh /etc/nats/renew.sh; exec sh /etc/nats/alive.sh") -}}
{{- end -}}
{{- end -}}

{{/* herald.config: data of the ConfigMap herald. */}}
{{- define "herald.config" -}}
{{- $v := .Values -}}
{{- $data := (.Files.Get "files/manifests/10-config.yaml" | fromYaml).data -}}
{{- if $v.nats.enabled -}}
  {{- $urls := list -}}
  {{- range $i := until (int $v.nats.replicas) }}{{ $urls = append $urls (printf "%s://nats-%d.nats:4222" (ternary "tls" "nats" $v.tls.nats.enabled) $i) }}{{ end -}}
  {{- $_ := set $data "HERALD_NATS_URL" (join "," $urls) -}}
  {{- $_ := set $data "HERALD_REPLICAS" (toString $v.nats.replicas) -}}
{{- else -}}
  {{- $_ := set $data "HERALD_NATS_URL" (required "nats.url: name your own NATS, or let nats.enabled be true" $v.nats.url) -}}
  {{- $_ := set $data "HERALD_REPLICAS" (toString $v.nats.streamReplicas) -}}
{{- end -}}
{{- if $v.tls.nats.enabled -}}
  {{- $_ := set $data "HERALD_NATS_CA" "/etc/herald/nats/ca.crt" -}}
  {{- $_ := set $data "HERALD_NATS_CERT" "/etc/herald/nats/tls.crt" -}}
  {{- $_ := set $data "HERALD_NATS_KEY" "/etc/herald/nats/tls.key" -}}
{{- end -}}
{{- range $k, $value := $v.config }}{{ $_ := set $data $k (ternary (int64 $value | toString) (toString $value) (kindIs "float64" $value)) }}{{ end -}}
{{- toYaml $data -}}
{{- end -}}

{{/* herald.nats: data of the ConfigMap nats. */}}
{{- define "herald.nats" -}}
{{- $v := .Values -}}
{{- $data := (printf "%s\n" (first (splitList "\n---\n" (.Files.Get "files/manifests/20-nats.yaml"))) | fromYaml).data -}}
{{- $routes := list -}}
{{- range $i := until (int $v.nats.replicas) }}{{ $routes = append $routes (printf "    nats://nats-%d.nats:6222\n" $i) }}{{ end -}}
{{- $conf := index $data "nats.conf" -}}
{{- $conf = regexReplaceAll "max_file_store: \\S+" $conf (printf "max_file_store: %s" $v.nats.storage.maxFileStore) -}}
{{- $conf = regexReplaceAll "routes: \\[[^]]*\\]" $conf (printf "routes: [\n%s  ]" (join "" $routes)) -}}
{{- if eq (int $v.nats.replicas) 1 }}{{ $conf = regexReplaceAll "(?s)cluster \\{.*?\\n\\}\\n" $conf "" }}{{ end -}}
{{- $_ := set $data "nats.conf" $conf -}}
{{- if $v.tls.nats.enabled -}}
  {{- $tls := (printf "%s\n" (first (splitList "\n---\n" (.Files.Get "files/mutual-tls.yaml"))) | fromYaml).data -}}
  {{- range $k, $value := $tls }}{{ $_ := set $data $k $value }}{{ end -}}
{{- end -}}
{{- toYaml $data -}}
{{- end -}}
