# Shortcuts. What they do stands elsewhere: in go's commands and in .ci/run.
SHELL := /bin/bash

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BINARIES := dist/secretsd-linux-amd64 dist/secretsd-linux-arm64 dist/secretsd-darwin-arm64
ARCH := $(shell go env GOARCH)
CA_CERTIFICATES := /etc/ssl/certs/ca-certificates.crt
BUILDER := $(firstword $(shell command -v podman buildah docker) podman)

.PHONY: help test quick race lint bench dist image $(BINARIES)

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile

test: ## all tests; prints what is skipped and why
	set -o pipefail; go test -v ./... 2>&1 | awk -f .ci/skips.awk

quick: ## the quick round
	go test -short ./...

race: ## with race detection, shuffled
	go test -race -shuffle=on ./...

lint: ## gofmt, vet, go.mod, cross builds, golangci-lint
	.ci/run lint

bench: ## the benchmarks and their figures; first those of a rotation
	go test -run '^$$' -bench '^BenchmarkRotation' -benchmem ./agent ./e2e/bench
	go test -run '^$$' -bench . -skip '^BenchmarkRotation' -benchmem ./...

dist: $(BINARIES) ## static binaries for three platforms, into dist/

$(BINARIES): dist/secretsd-%:
	CGO_ENABLED=0 GOOS=$(word 1,$(subst -, ,$*)) GOARCH=$(word 2,$(subst -, ,$*)) \
	  go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $@ ./cmd/secretsd

image: dist/secretsd-linux-$(ARCH) ## the container image secretsd:VERSION
	cp $(CA_CERTIFICATES) dist/ca-certificates.crt
	$(BUILDER) build --build-arg BINARY=secretsd-linux-$(ARCH) --build-arg VERSION=$(VERSION) \
	  -t secretsd:$(VERSION) -f packaging/container/Containerfile dist
