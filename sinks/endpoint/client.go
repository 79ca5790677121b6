package endpoint

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
)

// Client is somebody who may read some of the secrets.
type Client struct {
	// Name is what logs and the audit call it.
	Name string
	// Tokens are its own; nil where UIDs and GIDs alone say who it is.
	Tokens *Tokens
	// UIDs and GIDs are the users and the primary groups of its processes; any of
	// them will do. They are known of peers on the unix socket only. Where
	// there are tokens too a request needs both.
	UIDs, GIDs []int
	// Rights are what it may read.
	Rights Rights
}

// DefaultClient is what requests with the top-level token are called.
const DefaultClient = "default"

// Peer is the process at the other end of a unix socket, as it was when it
// connected (unix(7), SO_PEERCRED).
type Peer struct{ UID, GID, PID int }

// client is who a request comes from. Its rights are nil for the top-level
// token.
type client struct {
	name       string
	tokens     *Tokens
	uids, gids []int
	rights     *Rights
	// mark is what [Options.Mark] returned for it.
	mark any
}

// setClients takes over the top-level tokens, nil where there are none, and the
// clients.
func (s *settings) setClients(tokens *Tokens, clients []Client) error {
	if tokens != nil {
		s.top = &client{name: DefaultClient, tokens: tokens}
		s.clients = append(s.clients, s.top)
	}
	var errs []error
	names := map[string]bool{}
	for _, c := range clients {
		if c.Tokens == nil && len(c.UIDs)+len(c.GIDs) == 0 {
			errs = append(errs, withHint("give it a token file, uids or gids", "admit client %s: nothing tells who it is", c.Name))
		}
		if c.Name == "" || names[c.Name] {
			errs = append(errs, withHint("give each client a name of its own", "admit client %q: missing name, or one of another client", c.Name))
		}
		names[c.Name] = true
		if err := c.Rights.Secrets.Check(); err != nil {
			errs = append(errs, fmt.Errorf("client %s: %w", c.Name, err))
		}
		if err := c.Rights.Roles.Check(); err != nil {
			errs = append(errs, fmt.Errorf("client %s: %w", c.Name, err))
		}
		s.clients = append(s.clients, &client{name: c.Name, tokens: c.Tokens, uids: c.UIDs, gids: c.GIDs, rights: &c.Rights})
	}
	return errors.Join(errs...)
}

// identify returns who the request comes from, or nil if it is nobody known.
// Who sends a token is meant by it; without a right one the socket's peer
// counts. All tokens are compared whatever the first says.
func (s *settings) identify(r *request) *client {
	var buf [4]digest
	sent := buf[:0]
	for _, name := range s.tokenHeaders {
		if token, present := r.header.first(name); present {
			sent = append(sent, digestOf(token))
		}
	}
	var byToken, byPeer *client
	for _, c := range s.clients {
		switch {
		case c.tokens == nil:
			if byPeer == nil && c.admits(r.peer) {
				byPeer = c
			}
		case c.tokens.holdAny(sent) && byToken == nil && c.admits(r.peer):
			byToken = c
		}
	}
	if byToken != nil {
		return byToken
	}
	return byPeer
}

// admits reports whether the client may come from that peer, which is nil for
// TCP.
func (c *client) admits(p *Peer) bool {
	if len(c.uids)+len(c.gids) == 0 {
		return true
	}
	return p != nil && (slices.Contains(c.uids, p.UID) || slices.Contains(c.gids, p.GID))
}

// digestOf returns the digest of what a client sent.
func digestOf(token string) digest {
	var buf [256]byte // on the stack, and enough for all but session tokens
	return sha256.Sum256(append(buf[:0], token...))
}

// holdAny reports whether any of the digests is that of a valid token. It
// compares all with all.
func (t *Tokens) holdAny(sent []digest) bool {
	held := false
	for i := range sent {
		if t.hold(&sent[i]) {
			held = true
		}
	}
	return held
}
