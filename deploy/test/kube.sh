#!/usr/bin/env bash
# The manifests against a cluster: `make kube-test`.
#
# KUBECONFIG names a cluster that may be changed. The test makes the namespace
# herald, and deletes it at the end with everything in it; where it exists the
# test refuses to start. Nodes must have the images of the manifests, or be
# able to pull them.
#
#   KEEP=1          leave the namespace as it is at the end
#   ROLL="..."      what is restarted under load; "gateway ingest nats logger"
#   ROLLOUT=10m     how long one rollout may take
#
# Where nodes are simulated (kwok) nothing runs: then the objects are checked,
# and the script says what it did not test.
set -euo pipefail
cd "$(dirname "$0")/../.."
roll=${ROLL-gateway ingest nats logger} rollout=${ROLLOUT:-10m}
channel=public.kube-test
work=$(mktemp -d)

say()  { printf 'kube-test: %s\n' "$*"; }
fail() { printf 'kube-test: FAILED: %s\n' "$*" >&2; exit 1; }
k()    { kubectl -n herald "$@"; }

# --- a cluster ---------------------------------------------------------------
command -v kubectl >/dev/null || fail "kubectl is not installed"
[ -n "${KUBECONFIG:-}" ] || fail "KUBECONFIG is not set; point it to a cluster that this test may change"
kubectl version >/dev/null 2>"$work/err" || fail "the cluster of $KUBECONFIG does not answer: $(tail -1 "$work/err")"
kubectl get nodes -o name >"$work/nodes"
[ -s "$work/nodes" ] || fail "the cluster has no node"
! kubectl get namespace herald -o name >/dev/null 2>&1 ||
  fail "the namespace herald exists; this test makes it, and deletes it at the end"
simulated=$(kubectl get nodes -o jsonpath='{.items[*].metadata.annotations.kwok\.x-k8s\.io/node}')

pids=()
finish() {
  local code=$?
  for p in "${pids[@]}"; do kill -- "-$p" 2>/dev/null || true; done
  wait 2>/dev/null || true
  if [ $code != 0 ]; then
    k get pods,pvc -o wide 2>/dev/null || true
    k get events --sort-by=.lastTimestamp 2>/dev/null | tail -15 || true
    for p in $(k get pods -o name 2>/dev/null); do echo "--- $p"; k logs "$p" --tail=3 2>/dev/null || true; done
  fi
  if [ -z "${KEEP:-}" ]; then
    kubectl delete namespace herald herald-test --ignore-not-found --timeout=5m >/dev/null || true
  fi
  rm -rf "$work"
  exit $code
}
trap finish EXIT
trap 'exit 130' INT TERM

# --- the objects ---------------------------------------------------------------
kubectl apply -f deploy/00-namespace.yaml >/dev/null # a server dry run needs it
for way in -f -k; do
  kubectl apply --dry-run=server --validate=strict -o name $way deploy/ 2>"$work/warnings$way" | sort >"$work/objects$way" ||
    fail "kubectl apply $way deploy/: $(cat "$work/warnings$way")"
  [ ! -s "$work/warnings$way" ] || fail "kubectl apply $way deploy/ warns: $(cat "$work/warnings$way")"
done
diff "$work/objects-f" "$work/objects-k" || fail "-f and -k do not apply the same objects"
say "strict server dry run: $(wc -l <"$work/objects-f") objects, no warning, the same with -f and -k"

kubectl apply -f deploy/ 2>&1 | tee "$work/applied" >/dev/null
! grep -i warning "$work/applied" || fail "the server warns"
kubectl diff -k deploy/ >"$work/diff" || fail "kubectl apply -k would change what -f applied: $(cat "$work/diff")"
say "applied with -f; -k would change nothing"

# The components, in an overlay outside deploy/, as their comments say. The
# certificates are cert-manager's, whose kinds this cluster may not know.
mkdir "$work/overlay"
from=$(realpath --relative-to="$work/overlay" deploy)
for c in litestream mutual-tls; do
  printf 'resources: [%s]\ncomponents: [%s/examples/%s]\n' "$from" "$from" $c >"$work/overlay/kustomization.yaml"
  kubectl kustomize "$work/overlay" >"$work/$c.yaml" || fail "the component $c does not fit"
done
kubectl apply --dry-run=server --validate=strict -f "$work/litestream.yaml" >/dev/null 2>"$work/err" || fail "the component litestream: $(cat "$work/err")"
[ ! -s "$work/err" ] || fail "the component litestream: $(cat "$work/err")"
say "examples: litestream is valid, mutual-tls can be rendered"

if kubectl -n herald run intruder --image=nats:2.15-alpine --privileged --dry-run=server >/dev/null 2>"$work/err"; then
  fail "a privileged pod is admitted; pod security is not enforced"
fi
grep -q 'violates PodSecurity "restricted' "$work/err" || fail "a privileged pod is refused for another reason: $(cat "$work/err")"
say "pod security: restricted is enforced"

# Volumes that do not honour fsGroup belong to root, and NATS starts over and over.
may_write() {
  for _ in $(seq 60); do
    case $(k logs nats-0 --tail=3 2>/dev/null || true) in
      *"permission denied"*) fail "NATS may not write to its volume: this StorageClass does not honour fsGroup, as hostPath does not; let all users write to its folders, or take another class" ;;
      *"Server is ready"*) return ;;
    esac
    sleep 1
  done
}
[ -n "$simulated" ] || may_write

roll_out() { # KIND/NAME
  k rollout status "$1" --timeout="$rollout" >/dev/null || fail "$1 did not roll out in $rollout"
}
for w in statefulset/nats deployment/ingest deployment/gateway deployment/admin statefulset/logger; do roll_out $w; done
# The autoscaler brings its own minimum, a moment after the first pod is there.
for w in ingest gateway; do
  k wait --for=jsonpath='{.status.readyReplicas}'=2 deployment/$w --timeout="$rollout" >/dev/null || fail "$w did not come to two pods"
done
say "rolled out: $(k get pods -o name | wc -l) pods ready on $(wc -l <"$work/nodes") node(s)"

if [ -n "$simulated" ]; then
  say "NOT TESTED: messages, probes, policies, restarts under load; the nodes are simulated and run nothing"
  say "passed, as far as simulated nodes go"
  exit 0
fi

# --- a message, from end to end ------------------------------------------------
go build -o "$work/herald" ./services/allinone

# forward NAME PORT LOCAL N: 127.0.0.1:LOCAL leads to the Nth pod of NAME that
# is not about to leave; to the next one when that is gone.
staying='{{range .items}}{{if not .metadata.deletionTimestamp}}{{$name := .metadata.name}}{{range .status.containerStatuses}}{{if .ready}}{{$name}}{{"\n"}}{{end}}{{end}}{{end}}{{end}}'
forward() {
  while sleep 0.3; do
    pod=$(k get pods -l "app.kubernetes.io/name=$1" -o go-template="$staying" | awk -v n="$4" '{p[NR] = $0} END {if (NR) print p[(n - 1) % NR + 1]}')
    [ -z "$pod" ] || kubectl -n herald port-forward --address 127.0.0.1 "pod/$pod" "$3:$2" >>"$work/forward.log" 2>&1 || true
  done
}
start() { set -m; "$@" & pids+=($!); set +m; } # a process group each: forward has children
wait_for() { # SECONDS WHAT COMMAND...
  local end=$((SECONDS + $1)) what=$2; shift 2
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || fail "$what"; sleep 0.3; done
}
start forward ingest 8080 28080 1
start forward gateway 8081 28081 1
start forward gateway 8081 28082 2
start forward logger 8082 28083 1
for port in 28080 28081 28082 28083; do
  wait_for 60 "nothing is ready behind 127.0.0.1:$port" curl -fsS "http://127.0.0.1:$port/readyz"
done

key=$(k logs -l app.kubernetes.io/name=ingest --tail=-1 | sed -n 's/^ *API key: //p' | head -1)
[ -n "$key" ] || fail "ingest has not printed an API key"
say "ingest made its first API key and printed it once"

clients=4
for c in $(seq $clients); do
  start "$work/herald" listen -url "http://127.0.0.1:$((28081 + c % 2))" "$channel" >"$work/client$c" 2>"$work/client$c.err"
  wait_for 30 "client $c is not welcomed: $(cat "$work/client$c.err")" grep -q listening "$work/client$c.err"
done
publish() { # DATA: until it is stored, however long ingest or NATS is away
  local end=$((SECONDS + 120))
  until curl -fsS -m 20 -o /dev/null -H "X-API-KEY: $key" -H "Idempotency-Key: $1" -H 'Content-Type: application/json' \
    -d "$1" "http://127.0.0.1:28080/v1/channels/$channel" 2>>"$work/publish.err"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.2
  done
}
publish 1 || fail "the first message is not accepted: $(tail -1 "$work/publish.err")"
for c in $(seq $clients); do
  wait_for 30 "client $c did not get the message" grep -q '"data":1,' "$work/client$c"
done
say "one message: $clients clients on two gateways got it"

# --- who may talk to whom ---------------------------------------------------------
# Pods of another namespace; the image is there already, and has a shell.
kubectl create namespace herald-test >/dev/null 2>&1 || true
visitor() { # NAME LABELS
  kubectl -n herald-test run "$1" --labels="$2" --image=nats:2.15-alpine --restart=Never --command -- sleep 3600 >/dev/null
  kubectl -n herald-test wait --for=condition=Ready "pod/$1" --timeout=2m >/dev/null || fail "the pod $1 does not start"
}
reaches() { # POD HOST PORT
  kubectl -n herald-test exec "$1" -- sh -c "printf 'GET /healthz HTTP/1.0\r\n\r\n' | nc -w 5 $2 $3" 2>/dev/null | grep -q '200 OK'
}
visitor stranger app=stranger
visitor client herald.io/client=true
reaches client ingest.herald 8080 || fail "a pod labelled herald.io/client does not reach ingest"
if reaches stranger nats.herald 8222; then
  say "NOT TESTED: network policies; this cluster's network stores them and does not enforce them"
else
  ! reaches stranger ingest.herald 8080 || fail "a stranger reaches ingest"
  ! reaches client nats.herald 8222 || fail "a client reaches NATS"
  say "network policies: a stranger reaches nothing, a labelled client only the services"
fi

# --- restarts under load ------------------------------------------------------------
load() {
  local n=1
  until [ -e "$work/stop" ]; do
    n=$((n + 1))
    publish $n || { echo "message $n could not be stored within 120 s: $(tail -1 "$work/publish.err")" >"$work/load.failed"; break; }
    echo $n >"$work/last"
    sleep 0.1
  done
}
start load
loader=${pids[-1]}
for w in $roll; do
  case $w in nats|logger) kind=statefulset ;; *) kind=deployment ;; esac
  begin=$SECONDS
  k rollout restart $kind/$w >/dev/null
  roll_out $kind/$w
  [ ! -e "$work/load.failed" ] || fail "while $w restarted: $(cat "$work/load.failed")"
  say "restarted $w in $((SECONDS - begin)) s, $(cat "$work/last") messages so far"
done
touch "$work/stop"
wait "$loader" || true
[ ! -e "$work/load.failed" ] || fail "$(cat "$work/load.failed")"
last=$(cat "$work/last")
for c in $(seq $clients); do
  wait_for 60 "client $c did not get the last message, $last: $(tail -3 "$work/client$c.err")" grep -q "\"data\":$last," "$work/client$c"
  sed -n 's/.*"data":\([0-9]*\),.*/\1/p' "$work/client$c" >"$work/got"
  diff -q <(seq "$last") "$work/got" >/dev/null || {
    diff <(seq "$last") "$work/got" | head -20
    fail "client $c: lost (<), doubled or out of order (>)"
  }
  ! grep -q missing "$work/client$c.err" || fail "client $c was told of a gap: $(grep missing "$work/client$c.err")"
done
reconnects=$(cat "$work"/client*.err | grep -c 'connecting again' || true)
say "$last messages, $clients clients, $reconnects reconnects: nothing lost, doubled or out of order"

rows() { [ "$(curl -fsS -H "X-API-KEY: $key" "http://127.0.0.1:28083/v1/log?channel=$channel&format=ndjson" | wc -l)" = "$last" ]; }
wait_for 60 "the log has not $last rows" rows
say "the log has $last rows"

# --- the chart --------------------------------------------------------------------
helm=$(command -v helm || echo "${XDG_CACHE_HOME:-$HOME/.cache}/herald-tools/helm")
if [ ! -x "$helm" ]; then
  say "NOT TESTED: deploy/chart; helm is not installed"
  say "passed"
  exit 0
fi
for p in "${pids[@]}"; do kill -- "-$p" 2>/dev/null || true; done
wait 2>/dev/null || true
pids=()
kubectl delete namespace herald --timeout=5m >/dev/null || fail "the namespace does not go away"
begin=$SECONDS
"$helm" install herald deploy/chart --namespace herald --create-namespace --set ingress.enabled=false --wait --timeout "$rollout" >/dev/null 2>"$work/err" ||
  fail "helm install: $(grep -v 'symbolic link' "$work/err")"
start forward ingest 8080 28080 1
start forward gateway 8081 28081 1
for port in 28080 28081; do
  wait_for 60 "nothing of the chart is ready behind 127.0.0.1:$port" curl -fsS "http://127.0.0.1:$port/readyz"
done
key=$(k logs -l app.kubernetes.io/name=ingest --tail=-1 | sed -n 's/^ *API key: //p' | head -1)
[ -n "$key" ] || fail "the chart's ingest has not printed an API key"
start "$work/herald" listen -url http://127.0.0.1:28081 "$channel" >"$work/chart" 2>"$work/chart.err"
wait_for 30 "the chart's gateway welcomes nobody: $(cat "$work/chart.err")" grep -q listening "$work/chart.err"
publish 424242 || fail "the chart's ingest takes no message: $(tail -1 "$work/publish.err")"
wait_for 30 "a client of the chart's gateway did not get the message" grep -q '"data":424242,' "$work/chart"
say "the chart was installed in $((SECONDS - begin)) s, and delivers a message"
before=$(k get deployment/gateway -o jsonpath='{.spec.template.metadata.annotations.herald\.io/config}')
"$helm" upgrade herald deploy/chart --namespace herald --set ingress.enabled=false --set config.HERALD_LOG_LEVEL=debug --wait --timeout "$rollout" >/dev/null 2>"$work/err" ||
  fail "helm upgrade: $(grep -v 'symbolic link' "$work/err")"
[ "$before" != "$(k get deployment/gateway -o jsonpath='{.spec.template.metadata.annotations.herald\.io/config}')" ] || fail "a changed setting rolls nothing"
say "a changed setting rolled its pods"
say "passed"
