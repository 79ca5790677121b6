package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
)

// maxAnswer is how much of an answer's body is read, so that a server that is
// still writing is not cut off in the middle. What it says is not kept.
const maxAnswer = 64 << 10

// news is the body of a request: why, and what. It holds names and no values.
type news struct {
	Target   string          `json:"target"`
	Reason   Reason          `json:"reason"`
	Secrets  []SecretVersion `json:"secrets"`
	Paths    []string        `json:"paths"`
	First    bool            `json:"first,omitempty"`
	Rollback bool            `json:"rollback,omitempty"`
}

// post tells by a request.
func post(ctx context.Context, target string, h *HTTP, c Change) error {
	method := h.method(http.MethodPost)
	if method == http.MethodGet {
		return request(ctx, h, method, nil)
	}
	body, err := json.Marshal(news{
		Target: target, Reason: c.Reason, First: c.First, Rollback: c.Rollback,
		Secrets: append([]SecretVersion{}, c.Secrets...), Paths: append([]string{}, c.Paths...),
	})
	if err != nil {
		return &failure{msg: "encode request", cause: err}
	}
	return request(ctx, h, method, body)
}

// request makes one request on a connection of its own, and returns nil if the
// answer has the status that h wants.
func request(ctx context.Context, h *HTTP, method string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, method, h.URL, bytes.NewReader(body))
	if err != nil {
		return &failure{msg: "make request", cause: err}
	}
	req.Header.Set("User-Agent", "secretsd")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	transport := &http.Transport{DialContext: dialLoopback, DisableKeepAlives: true}
	client := &http.Client{
		Transport:     transport, // without Proxy: what the environment says is not for loopback
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(req)
	if err != nil {
		return requestFailure(method, h.URL, err)
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, maxAnswer) // it has answered already
	want := res.StatusCode == h.Status || h.Status == 0 && res.StatusCode/100 == 2
	if want {
		return nil
	}
	f := &failure{msg: fmt.Sprintf("%s %s answered %s", method, h.URL, status(res.StatusCode))}
	if res.StatusCode/100 == 3 {
		f.hint = "redirects are not followed: write the URL that it leads to"
	}
	return f
}

// status names a status code. The server's own words are not repeated.
func status(code int) string {
	if text := http.StatusText(code); text != "" {
		return fmt.Sprintf("%d %s", code, text)
	}
	return fmt.Sprint(code)
}

// requestFailure says why there was no answer. That nobody listens yet is a
// state, as with a process that is not running.
func requestFailure(method, where string, err error) error {
	if inner, ok := errors.AsType[*url.Error](err); ok {
		err = inner.Err // it repeats the URL
	}
	f := &failure{msg: method + " " + where, cause: err}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		f.class, f.msg, f.cause = absent, "nobody listens at "+where, nil
	case errors.Is(err, context.DeadlineExceeded):
		f.msg, f.cause = fmt.Sprintf("%s %s was not answered in time", method, where), nil
		f.hint = "give it a longer timeout, or have it answer before it begins to reload"
	}
	return f
}

// dialLoopback connects to a loopback address. localhost is not looked up, for
// where there is no /etc/hosts a resolver would ask the network for it.
func dialLoopback(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if !loopback(host) {
		return nil, fmt.Errorf("%s is not a loopback address", host)
	}
	var d net.Dialer
	if host != "localhost" {
		return d.DialContext(ctx, network, addr)
	}
	conn, err := d.DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
	if err == nil {
		return conn, nil
	}
	if conn, v6 := d.DialContext(ctx, network, net.JoinHostPort("::1", port)); v6 == nil {
		return conn, nil
	}
	return nil, err
}
