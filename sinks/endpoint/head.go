package endpoint

import (
	"bytes"
	"strings"
)

const (
	// headSize is the buffer that a connection begins with, enough for a token;
	// maxHead is what it may grow to, enough for an AWS session token. Heads that
	// are longer still are net/http's.
	headSize = 2 << 10
	maxHead  = 8 << 10
	// maxFields is how many header fields a plain head has at most.
	maxFields = 32
)

// plainHead is the head of a plain request: a GET of HTTP/1.1 without a body,
// written as clients write it. That is a small part of what RFC 9112 allows, in
// which nothing can be understood in two ways; [FuzzPlainHead] holds that
// net/http reads each of them as the same request. Everything else is left to
// net/http.
type plainHead struct {
	// text is the head as it stands on the wire. The rest are parts of it, but
	// target, which is a string of its own, for it may be kept.
	text   string
	target string
	host   string
	fields []headField
	// closes says that the client wants the connection closed afterwards.
	closes bool
}

type headField struct{ name, value string }

// verdict says what is at the beginning of what was read.
type verdict int

const (
	headPlain   verdict = iota
	headPartial         // may become a plain head
	headOther           // is for net/http
)

const (
	method = "GET "
	// waitParameter is of requests that wait for a change, which need more time
	// than a plain connection has. One that hides it behind escapes waits less.
	waitParameter = "waitVersion"
)

// read reads a head at the beginning of b. With headPlain h holds it, and req
// what a request takes from it. A head that is the same as the last one, byte for
// byte, as most are on a connection that is kept, is not read anew.
func (h *plainHead) read(b []byte, req *request) verdict {
	if len(h.text) > 0 && len(b) >= len(h.text) && string(b[:len(h.text)]) == h.text {
		return headPlain
	}
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if maybePlain(b) {
			return headPartial
		}
		return headOther
	}
	h.text = string(b[:end+4])
	if h.parse(h.text[:end+2]) {
		req.target, req.host, req.passed = h.target, h.host, nil
		return headPlain
	}
	h.text = ""
	return headOther
}

// maybePlain reports whether a head that is not complete can still become a
// plain one. net/http also takes lines that end with LF alone, so that for those
// an empty line has another look.
func maybePlain(b []byte) bool {
	if len(b) >= maxHead || !strings.HasPrefix(method+"/", string(b[:min(len(b), len(method)+1)])) {
		return false
	}
	for i, c := range b {
		if c == '\n' && b[i-1] != '\r' { // b does not begin with LF
			return false
		}
	}
	return true
}

// parse reads the lines of a head, each with its CRLF, and returns false for
// one that is not plain.
func (h *plainHead) parse(text string) bool {
	line, rest, _ := strings.Cut(text, "\r\n")
	target, isGet := strings.CutPrefix(line, method)
	target, isHTTP11 := strings.CutSuffix(target, " HTTP/1.1")
	if !isGet || !isHTTP11 || !isPlainTarget(target) || strings.Contains(target, waitParameter) {
		return false
	}
	h.target, h.host, h.closes, h.fields = strings.Clone(target), "", false, h.fields[:0]
	for rest != "" {
		line, rest, _ = strings.Cut(rest, "\r\n")
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isPlainName(name) || !isPlainValue(value) || len(h.fields) == maxFields {
			return false
		}
		f := headField{name, strings.Trim(value, " \t")}
		if !h.take(f) {
			return false
		}
		h.fields = append(h.fields, f)
	}
	return h.host != ""
}

// take acts on the fields that HTTP itself knows, and returns false for those
// that make a request more than plain: a body, an upgrade, an expectation.
func (h *plainHead) take(f headField) bool {
	switch len(f.name) {
	case len("Host"):
		if strings.EqualFold(f.name, "Host") {
			if h.host != "" || !isPlainHost(f.value) {
				return false
			}
			h.host = f.value
		}
	case len("Expect"):
		return !strings.EqualFold(f.name, "Expect")
	case len("Upgrade"):
		return !strings.EqualFold(f.name, "Upgrade") && !strings.EqualFold(f.name, "Trailer")
	case len("Connection"):
		if strings.EqualFold(f.name, "Connection") {
			h.closes = h.closes || strings.EqualFold(f.value, "close")
			return strings.EqualFold(f.value, "close") || strings.EqualFold(f.value, "keep-alive")
		}
	case len("Content-Length"):
		return !strings.EqualFold(f.name, "Content-Length") && !strings.EqualFold(f.name, "HTTP2-Settings")
	case len("Transfer-Encoding"):
		return !strings.EqualFold(f.name, "Transfer-Encoding")
	}
	return true
}

// first implements header.
func (h *plainHead) first(name string) (string, bool) {
	for i := range h.fields {
		if f := &h.fields[i]; len(f.name) == len(name) && strings.EqualFold(f.name, name) {
			return f.value, true
		}
	}
	return "", false
}

// isPlainTarget reports whether s is an absolute path with or without a query
// (RFC 9112, 3.2.1), all of whose escapes are whole. A second slash at the
// beginning could be taken for an authority.
func isPlainTarget(s string) bool {
	if s == "" || s[0] != '/' || len(s) > 1 && s[1] == '/' {
		return false
	}
	query := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c <= ' ' || c >= 0x7f || c == '#':
			return false
		case c == '?':
			query = true
		case c == '%' && !query && (i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2])):
			return false
		}
	}
	return true
}

// isPlainHost takes the characters of names, addresses and ports, which are
// fewer than RFC 3986, 3.2.2, allows.
func isPlainHost(s string) bool {
	return s != "" && allOf(s, func(c byte) bool {
		return isAlphanumeric(c) || c == '.' || c == '-' || c == ':' || c == '[' || c == ']'
	})
}

// isPlainName takes the characters of header names in use, which are fewer than
// those of a token (RFC 9110, 5.6.2).
func isPlainName(s string) bool {
	return s != "" && allOf(s, func(c byte) bool { return isAlphanumeric(c) || c == '-' || c == '_' })
}

// isPlainValue takes visible ASCII, space and tab (RFC 9110, 5.5, without
// obs-text).
func isPlainValue(s string) bool {
	return allOf(s, func(c byte) bool { return ' ' <= c && c < 0x7f || c == '\t' })
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func allOf(s string, is func(byte) bool) bool {
	for i := range len(s) {
		if !is(s[i]) {
			return false
		}
	}
	return true
}
