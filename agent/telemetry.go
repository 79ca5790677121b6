package agent

import (
	"net/http"

	"secretsd/agent/metrics"
)

// telemetry returns what the telemetry listener serves.
func (a *Agent) telemetry() http.Handler {
	mux := http.NewServeMux()
	a.health.serve(mux)
	mux.Handle("GET /metrics", metrics.Handler(a.measure))
	return mux
}
