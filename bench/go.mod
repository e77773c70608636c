module github.com/herald-push/herald/bench

go 1.26.0

require (
	github.com/centrifugal/centrifuge v0.40.1
	github.com/gorilla/websocket v1.5.3
	github.com/herald-push/herald/proto v0.0.0
	github.com/herald-push/herald/services/gateway v0.0.0
	github.com/herald-push/herald/services/ingest v0.0.0
	github.com/nats-io/nats.go v1.55.0
	go.uber.org/goleak v1.3.0
	golang.org/x/sys v0.49.0
)

tool (
	github.com/herald-push/herald/services/gateway/cmd/gateway
	github.com/herald-push/herald/services/ingest/cmd/ingest
	github.com/nats-io/nats-server/v2
)

replace (
	github.com/herald-push/herald/proto => ../proto
	github.com/herald-push/herald/services/gateway => ../services/gateway
	github.com/herald-push/herald/services/ingest => ../services/ingest
	github.com/herald-push/herald/services/internal => ../services/internal
	github.com/herald-push/herald/web => ../web
)
