package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"secretsd/agent/audit"
	"secretsd/agent/secret"
	"secretsd/sinks/endpoint"
)

// ControlSocket is the name of the control socket in the state directory.
const ControlSocket = "control.sock"

// controlWait bounds how long a command waits for a secret that is being read,
// as the endpoint does.
const controlWait = 15 * time.Second

// ControlError is what the control socket answers when something is wrong.
type ControlError struct {
	Message string `json:"error"`
	Remedy  string `json:"hint,omitempty"`
	// Missing says that a secret could not be read.
	Missing bool `json:"missing,omitempty"`
}

// Error returns the message.
func (e *ControlError) Error() string { return e.Message }

// Hint returns the remedy.
func (e *ControlError) Hint() string { return e.Remedy }

// listenControl binds the control socket of a state directory, whose lock the
// caller holds. The socket has its mode before it has its name, so that nobody
// else can connect in between: it is made in a directory that only the agent's
// user may enter. A socket that a crash has left is replaced.
func listenControl(dir string) (net.Listener, error) {
	path := filepath.Join(dir, ControlSocket)
	if err := clearSocket(path); err != nil {
		return nil, err
	}
	private := filepath.Join(dir, ".control") // with its socket no longer than path
	if err := os.RemoveAll(private); err != nil {
		return nil, fmt.Errorf("clear %s: %w", private, err)
	}
	if err := os.Mkdir(private, 0o700); err != nil {
		return nil, fmt.Errorf("make directory for the control socket: %w", err)
	}
	defer os.RemoveAll(private)
	temp := filepath.Join(private, "s")
	ln, err := new(net.ListenConfig).Listen(context.Background(), "unix", temp)
	if err != nil {
		return nil, controlFault(path, err)
	}
	if l, ok := ln.(*net.UnixListener); ok {
		l.SetUnlinkOnClose(false) // its path is another one soon
	}
	bound, err := placeControl(temp, path)
	if err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("put control socket in place: %w", err)
	}
	return &controlListener{Listener: ln, path: path, bound: bound}, nil
}

func placeControl(temp, path string) (fs.FileInfo, error) {
	if err := os.Chmod(temp, 0o600); err != nil {
		return nil, err
	}
	bound, err := os.Lstat(temp)
	if err != nil {
		return nil, err
	}
	return bound, os.Rename(temp, path)
}

// controlFault explains the one way to fail that is the configuration's.
func controlFault(path string, err error) error {
	err = fmt.Errorf("bind control socket %s: %w", path, err)
	if errors.Is(err, syscall.EINVAL) {
		return &fault{err: err, hint: "a socket's path has at most 107 bytes: choose a shorter state_dir"}
	}
	return err
}

// clearSocket removes what is at path if it is a socket that nobody listens on.
func clearSocket(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at control socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return &fault{err: fmt.Errorf("make control socket %s: there is something else of that name", path),
			hint: "remove it, or choose another state_dir"}
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "unix", path)
	if err == nil {
		_ = conn.Close()
		return &fault{err: fmt.Errorf("make control socket %s: somebody listens on it", path),
			hint: "stop that program, or choose another state_dir"}
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("look whether somebody listens on the control socket: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove old control socket: %w", err)
	}
	return nil
}

// controlListener takes its socket away when it is closed, unless another one has
// taken its place.
type controlListener struct {
	net.Listener
	path  string
	bound fs.FileInfo
}

func (l *controlListener) inPlace() bool {
	there, err := os.Lstat(l.path)
	return err == nil && os.SameFile(there, l.bound)
}

func (l *controlListener) Close() error {
	if l.inPlace() {
		_ = os.Remove(l.path)
	}
	return l.Listener.Close()
}

// restoreControl makes the control socket again where somebody has removed or
// replaced it, so that the commands find the agent. That it cannot be made leaves
// everything else as it is.
func (a *Agent) restoreControl(g *errgroup.Group) {
	lost, ok := a.control.Listener.(*controlListener)
	if !ok || lost.inPlace() {
		return
	}
	ln, err := listenControl(filepath.Dir(lost.path))
	if err != nil {
		a.log.Error("cannot make the control socket again, which somebody has removed or replaced", attrs(err, "path", lost.path)...)
		return
	}
	a.log.Warn("made the control socket again, which somebody had removed or replaced", "path", lost.path)
	a.control.Listener = ln
	a.serveControl(g)
	_ = lost.Close()
}

// serveControl has the control socket answer.
func (a *Agent) serveControl(g *errgroup.Group) {
	server, ln := a.control.server, a.control.Listener
	g.Go(func() error { return ended(server.Serve(ln), "the control socket") })
}

type peerKey struct{}

// peer is who is at the other end of the control socket.
type peer struct {
	uid, gid, pid int
	err           error
}

// newControl returns the server of the control socket.
func (a *Agent) newControl() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, a.Status()) })
	mux.HandleFunc("GET /secret", a.giveSecret)
	mux.HandleFunc("POST /refresh", a.refreshSecret)
	return &http.Server{
		Handler:           a.admit(mux),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, peerOf(c))
		},
	}
}

// admit lets root and the agent's own user through. The socket's mode keeps
// others out already; the kernel's word on the peer keeps them out too where
// somebody has changed that mode.
func (a *Agent) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, ok := r.Context().Value(peerKey{}).(peer)
		if !ok || p.err != nil || (p.uid != 0 && p.uid != os.Geteuid()) {
			a.log.Warn("refused a connection to the control socket", "uid", p.uid, "pid", p.pid, "error", p.err)
			writeJSON(w, http.StatusForbidden, &ControlError{Message: "the control socket is for root and the agent's own user"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// giveSecret answers with a secret's bytes, or with those of one key of a JSON
// secret.
func (a *Agent) giveSecret(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), controlWait)
	defer cancel()
	query := r.URL.Query()
	ans, err := a.Read(ctx, endpoint.Query{ID: query.Get("id")})
	if err != nil {
		_ = a.auditControl(r, "get", nil, secret.KindOf(err).String()) // nothing is given
		refuseControl(w, err)
		return
	}
	value, err := valueOf(ans.Version, query)
	if err != nil {
		writeJSON(w, http.StatusUnprocessableEntity, &ControlError{Message: err.Error(), Remedy: hintOf(err)})
		return
	}
	if err := a.auditControl(r, "get", ans.Version, "ok"); err != nil {
		writeJSON(w, http.StatusInternalServerError, &ControlError{Message: "the audit log is required and cannot be written, so nothing is given"})
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Secretsd-Version-Id", ans.Version.VersionID)
	_, _ = w.Write(value) // a client that has gone is nobody's error
}

// refuseControl answers that a secret could not be read.
func refuseControl(w http.ResponseWriter, err error) {
	hint := hintOf(err)
	if hint == "" {
		hint = "secretsd status shows the secrets of this agent, and what is wrong with them"
	}
	writeJSON(w, http.StatusNotFound, &ControlError{Message: err.Error(), Remedy: hint, Missing: true})
}

func (a *Agent) auditControl(r *http.Request, event string, v *secret.Version, outcome string) error {
	query := r.URL.Query()
	e := audit.Entry{Event: event, Via: "control", Secret: cut(query.Get("id")), Key: cut(query.Get("key")), Outcome: outcome}
	if v != nil {
		e.ARN, e.VersionID = v.ARN, v.VersionID
	}
	if p, ok := r.Context().Value(peerKey{}).(peer); ok {
		e.Peer = auditedPeer(p.uid, p.gid, p.pid)
	}
	return a.audit.record(e)
}

// valueOf returns the whole value, or the field that query names by key: a
// string's text, anything else as its JSON.
func valueOf(v *secret.Version, query map[string][]string) ([]byte, error) {
	whole := v.Text.Bytes()
	if v.Text.IsZero() {
		whole = v.Binary.Bytes()
	}
	if len(query["key"]) == 0 {
		return whole, nil
	}
	key := query["key"][0]
	var fields map[string]json.RawMessage
	if json.Unmarshal(whole, &fields) != nil { // whose error quotes the value
		return nil, fmt.Errorf("secret %s has no keys: it is no JSON object", v.Name)
	}
	raw, ok := fields[key]
	if !ok {
		return nil, &fault{err: fmt.Errorf("secret %s has no key %q", v.Name, key), hint: "its keys: " + strings.Join(slices.Sorted(maps.Keys(fields)), ", ")}
	}
	var text string
	if raw[0] == '"' && json.Unmarshal(raw, &text) == nil {
		return []byte(text), nil
	}
	return raw, nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that has gone is nobody's error
}
