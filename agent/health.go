package agent

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// stuckAfter is how long one step of the applying loop may take before the agent
// counts as hung. Passes and reloads wait for nothing outside, so that anything
// near it is a defect or a filesystem that hangs.
const stuckAfter = time.Minute

// health is what /healthz and /readyz answer. Its methods may be called from
// any goroutine.
type health struct {
	clock func() time.Duration
	// busySince is when the step under way began, or 0.
	busySince atomic.Int64
	// unready says why the agent is not ready; nil before the first pass.
	unready atomic.Pointer[string]
}

// watch runs one step of the applying loop.
func (h *health) watch(step func()) {
	h.busySince.Store(int64(max(h.clock(), 1)))
	defer h.busySince.Store(0)
	step()
}

// assess keeps why the agent is not ready, or that it is.
func (h *health) assess(unready error) {
	reason := ""
	if unready != nil {
		reason = unready.Error()
	}
	h.unready.Store(&reason)
}

// reason returns why the agent is not ready, or "" if it is.
func (h *health) reason() string {
	if reason := h.unready.Load(); reason != nil {
		return *reason
	}
	return "starting"
}

// serve adds /healthz, which fails only when the applying loop is stuck,
// and /readyz, which says what is still missing. An outage of AWS fails
// neither, until values are older than max_stale.
func (h *health) serve(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if since := h.busySince.Load(); since != 0 && h.clock()-time.Duration(since) > stuckAfter {
			answer(w, "the applying loop is stuck")
			return
		}
		answer(w, "")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, h.reason())
	})
}

func answer(w http.ResponseWriter, fault string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if fault == "" {
		_, _ = io.WriteString(w, "ok\n")
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(w, fault+"\n")
}
