# The verbs of this project. `make run` needs Go alone; `make test` needs Go,
# Node and a Debian machine, and installs what else it needs.

MODULES  := proto services/internal services/admin services/ingest services/gateway services/logger services/allinone services/faults deploy/test web bench packaging
COMMANDS := ingest gateway logger admin
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
REVISION := $(shell git rev-parse HEAD 2>/dev/null)$(shell git diff --quiet HEAD 2>/dev/null || echo -dirty)
# The date of the build is SOURCE_DATE_EPOCH, or the commit's time: the same sources make the same bytes.
EPOCH    := $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null),$(shell date +%s))
DATE     := $(shell date -u -d @$(EPOCH) +%Y-%m-%dT%H:%M:%SZ 2>/dev/null || date -u -r $(EPOCH) +%Y-%m-%dT%H:%M:%SZ)
TELEMETRY := github.com/herald-push/herald/services/internal/telemetry
LDFLAGS  := -s -w -X $(TELEMETRY).Version=$(VERSION) -X $(TELEMETRY).Revision=$(REVISION) -X $(TELEMETRY).Date=$(DATE)
HELM     := helm.sh/helm/v3/cmd/helm@v3.22.0
ACTIONLINT := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
# Programs and their packages: for Windows, arm64, Debian and RPM.
DIST_TOOLS := wine:wine wineboot:wine x86_64-w64-mingw32-ld:binutils-mingw-w64-x86-64 wrestool:icoutils unzip:unzip sqlite3:sqlite3 \
	qemu-aarch64-static:qemu-user-static debootstrap:debootstrap rpm:rpm cpio:cpio Xvfb:xvfb
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# Programs that some checks need and that are no libraries: where they are, or are kept.
TOOLBOX := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/herald-tools

.DEFAULT_GOAL := run
.PHONY: proxies docs help up run build test tools check unit faults burst cross web fuzz bench scale microbench images rules chart chart-readme containers compose-test kube-test dist dist-check dist-test dist-tools npm-types clean

help: ## these verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

run: ## start everything in one process, on port 5000
	@trap 'stopped=1' INT; go run ./services/allinone || [ "$$stopped" ]

build: ## bin/herald and one binary per service
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/herald ./services/allinone
	$(foreach c,$(COMMANDS),go build -trimpath -ldflags '$(LDFLAGS)' -o bin/$(c) ./services/$(c)/cmd/$(c) &&) true

test: tools check unit cross web rules chart containers ## everything

tools: ## what the tests need and a fresh Debian lacks
	@missing=; \
	for need in gcc:gcc libc-dev:libc6-dev chromium:chromium sqlite3:sqlite3 openssl:openssl mkfs.ext4:e2fsprogs dbus-daemon:dbus-daemon; do \
		command -v $${need%%:*} >/dev/null || dpkg -s $${need#*:} >/dev/null 2>&1 || missing="$$missing $${need#*:}"; done; \
	if [ -n "$$missing" ]; then \
		echo "installing$$missing"; sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		$$sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq -o DPkg::Lock::Timeout=600 --no-install-recommends $$missing; fi
	cd web/test && npm ci --silent --no-fund --no-audit

check: ## formatting, vet with and without the workspace, staticcheck, workflows
	@unformatted=$$(gofmt -l $(MODULES)); [ -z "$$unformatted" ] || { echo "not gofmt-clean: $$unformatted"; exit 1; }
	go vet work
	$(foreach m,$(MODULES),(cd $(m) && GOWORK=off go vet ./...) &&) true
	$(foreach m,$(MODULES),(cd $(m) && go run $(STATICCHECK) ./...) &&) true
	cd packaging && go vet -tags dist .
	go run $(ACTIONLINT) .github/workflows/*.yml

unit: proxies ## all Go tests, under the race detector; end-to-end tests too
	HERALD_TEST_PROXIES=$(TOOLBOX)/proxies go test -race -timeout 20m work

proxies: ## nginx, HAProxy and Caddy, unpacked and not installed, for the tests of docs/how-to/proxy.md
	@if ! [ -d $(TOOLBOX)/proxies ] && command -v dpkg-deb >/dev/null; then echo "unpacking nginx, haproxy and caddy into $(TOOLBOX)/proxies"; d=$$(mktemp -d); \
		(cd $$d && apt-get download -qq nginx haproxy caddy liblua5.3-0 libopentracing-c-wrapper0 libopentracing1 2>/dev/null && mkdir p && \
		for f in *.deb; do dpkg-deb -x $$f p; done && mkdir -p $(TOOLBOX) && mv p $(TOOLBOX)/proxies) || echo "NOT TESTED here, for want of nginx, haproxy and caddy: docs/how-to/proxy.md"; rm -rf $$d; fi

faults: ## the fault suite at full length; writes its table into docs/explanation/faults.md
	cd services/faults && go test -count=1 -timeout 60m -v . -faults.long -faults.write

burst: ## a million messages through ingest into the log, as real processes: rows per CPU-second, memory, lag
	cd services/faults && go test -count=1 -timeout 30m -v -run 'TestBurst$$' . -faults.long

cross: ## binaries for other systems; nothing needs a C compiler
	GOOS=windows CGO_ENABLED=0 go build -o /dev/null ./services/allinone
	GOOS=darwin CGO_ENABLED=0 go build -o /dev/null ./services/allinone
	go vet -tags headless ./services/allinone/...

web: build ## the JavaScript client, the demo page and the console in a real browser
	go build -o bin/nats-server github.com/nats-io/nats-server/v2
	cd web/test && HERALD_BIN=$(CURDIR)/bin/herald node --test

screenshots: build ## pictures of the console for docs/images; with TO=FOLDER every page, wide and narrow, light and dark
	cd web/test && HERALD_BIN=$(CURDIR)/bin/herald FOLDER=$(abspath $(or $(TO),docs/images)) ALL=$(if $(TO),1) node --test screenshots.js

fuzz: ## every fuzz target for FUZZTIME each
	@set -e; for m in $(MODULES); do (cd $$m; for p in $$(go list ./...); do \
		for f in $$(go test -list '^Fuzz' $$p | grep ^Fuzz); do go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(or $(FUZZTIME),30s) $$p; done; done); done

bench: ## Herald against other servers on this machine, in some eleven minutes; writes its table into docs/explanation/benchmarks.md
	cd bench && go run . -readme ../docs/explanation/benchmarks.md

scale: ## N connections (60,000; 0: as many as this machine lets) over several gateways, and what a million cost; writes its tables into deploy/SCALING.md
	cd bench && go run . scale -n $(or $(N),60000) -readme ../deploy/SCALING.md

microbench: ## packs, their way through NATS, publish, fan-out and the log, each by itself, per core
	cd proto && go test -run '^$$' -bench . -benchmem ./...
	cd services/internal && go test -run '^$$' -bench . -benchmem ./...
	cd services/ingest && go test -run '^$$' -bench . -benchmem .
	cd services/gateway && go test -run '^$$' -bench . -benchmem ./...
	cd services/logger && go test -run '^$$' -bench . -benchmem ./...

up: ## docker-compose.yml, built from this tree, its images with the version and revision in them
	HERALD_BUILD_VERSION=$(VERSION) HERALD_BUILD_REVISION=$(REVISION) HERALD_BUILD_DATE=$(DATE) docker compose up -d --build --wait

images: ## herald/ingest, gateway, logger, admin and allinone, tagged HERALD_VERSION or dev; needs a docker engine
	@docker info >/dev/null 2>&1 || { echo "images and compose-test need a running docker engine, and there is none"; exit 1; }
	@set -e; for s in $(COMMANDS) allinone; do \
		docker build -f Dockerfile.$$s --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) --build-arg DATE=$(DATE) -t herald/$$s:$(or $(HERALD_VERSION),dev) .; \
		docker image inspect -f "herald/$$s: {{.Size}} bytes" herald/$$s:$(or $(HERALD_VERSION),dev); done


rules: ## every alert made to fire by promtool, which Debian's package prometheus has; elsewhere it says what was not tested
	@PATH="$$PATH:$(TOOLBOX)"; if ! command -v promtool >/dev/null && command -v dpkg-deb >/dev/null; then \
		echo "unpacking promtool, of the package prometheus, into $(TOOLBOX)"; d=$$(mktemp -d); \
		(cd $$d && apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb . && mkdir -p $(TOOLBOX) && cp usr/bin/promtool $(TOOLBOX)/) || true; rm -rf $$d; fi; \
	if command -v promtool >/dev/null; then promtool test rules deploy/monitoring/tests/herald.yml && promtool check rules deploy/monitoring/rules/*.yml; \
	else echo "NOT TESTED here, for want of promtool (it comes with Prometheus): whether each alert fires, deploy/monitoring/tests/herald.yml"; fi

chart: ## the Helm chart against the plain manifests, where there is helm; elsewhere it says what was not tested
	@export PATH="$$PATH:$(TOOLBOX)"; if command -v helm >/dev/null; then cd deploy/test && go test -tags helm -count=1 -run TestChart .; \
	else echo "NOT TESTED here, for want of helm (GOBIN=$(TOOLBOX) go install $(HELM)): what deploy/chart renders; its files were"; fi

docs: ## the tables of docs/reference, from the code, and the figures of README, from those of bench
	cd services/allinone && go test -count=1 -run 'Reference$$|FiguresInReadme' . -write-docs

chart-readme: ## the table of values in deploy/chart/README.md, from values.yaml
	cd deploy/test && go test -count=1 -run TestChartReadme . -write-chart

containers: ## compose-test where there is a docker engine; elsewhere it says what was not tested
	@if docker info >/dev/null 2>&1; then $(MAKE) compose-test; \
	else echo "NOT TESTED here, for want of a docker engine: images and docker-compose.yml (make compose-test)"; fi
	@echo "NOT TESTED here, for want of a cluster: deploy/ on Kubernetes (make kube-test); its files were"

compose-test: images ## docker-compose.yml from up to down, under load: scaled, killed, restarted; needs a docker engine
	cd deploy/test && go vet -tags compose . && go test -tags compose -count=1 -timeout 20m -run 'TestCompose$$|TestImages|TestAllinoneImage' -v .

kube-test: ## deploy/ on the cluster of KUBECONFIG, which must have no namespace herald; under load, every part restarted
	deploy/test/kube.sh

dist: ## the files of a release, in dist/: archives, .deb, .rpm, the npm package, inventories, SHA256SUMS; ONLY=linux/amd64 for some
	go run ./packaging -version '$(VERSION)' -revision '$(REVISION)' -epoch $(EPOCH) -out dist $(if $(ONLY),-only $(ONLY))

dist-check: ## a release built twice, in two folders, without a shared cache: the same bytes
	cd packaging && go test -tags dist -count=1 -timeout 30m -v -run TestReproducible .

dist-test: dist-tools ## the release used: Windows under Wine, arm64 under QEMU, the packages in a clean Debian; in minutes
	cd packaging && go test -tags dist -count=1 -timeout 60m -v .

dist-tools: # what dist-test needs and a fresh Debian lacks
	@missing=; for need in $(DIST_TOOLS); do command -v $${need%%:*} >/dev/null || missing="$$missing $${need#*:}"; done; \
	if [ -n "$$missing" ] && command -v apt-get >/dev/null; then \
		echo "installing$$missing"; sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		$$sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq -o DPkg::Lock::Timeout=600 --no-install-recommends $$missing; fi || true

npm-types: ## packaging/npm/types, from the sources of the client; needs the modules of web/test
	cd web/test && npm run --silent types -- --outDir ../../packaging/npm/types

clean: ## take away what was built
	rm -rf bin dist web/test/node_modules
