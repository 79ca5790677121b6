package endpoint

import (
	"context"
	"net/http"
	"time"
)

const pathRefresh = "/secretsd/refresh"

// refreshTime is how long the Refresher may take.
const refreshTime = 70 * time.Second

// Refresher reads a secret for a program that has just been refused with the
// version it has.
type Refresher interface {
	// Refresh reads the secret until the version at its stage is not refused any more, for up
	// to a minute, and returns when what it found has been published. With an
	// empty refused it reads once. Rights and errors are as for [Reader.Read].
	Refresh(ctx context.Context, q Query, refused string) (Refreshed, error)
}

// Refreshed is the outcome of a refresh.
type Refreshed struct {
	// Name is the configured name, or the ARN of a secret that has none.
	Name      string
	VersionID string
	// Changed says that the version is another one than refused or, where that
	// is empty, than before.
	Changed bool
}

// refresh answers POST /secretsd/refresh.
func (c *core) refresh(ctx context.Context, s *settings, who *client, r *request, query string) (resp response) {
	refresher, ok := c.reader.(Refresher)
	if !ok {
		return respNotFound
	}
	p := params{route: routeRefresh}
	defer func() { resp.waited = true }()
	if err := p.parse(query, true); err != nil {
		return plain(http.StatusBadRequest, err.Error())
	}
	if p.id == "" {
		return plain(http.StatusBadRequest, errMissingParameter.Error())
	}
	if err := p.checkRole(); err != nil {
		return plain(http.StatusBadRequest, err.Error())
	}
	if !c.enterPoll(s) {
		return respOverLimit
	}
	defer c.leavePoll()
	ctx, cancel := context.WithTimeout(ctx, r.longer(refreshTime))
	defer cancel()
	done, err := refresher.Refresh(ctx, Query{ID: p.id, Stage: p.stage, Role: p.role, Refresh: true, Rights: who.rights, Of: r.view.Of}, p.refused)
	if err != nil {
		resp := failedRead(p.role, err)
		resp.id, resp.role = p.id, p.role
		return resp
	}
	state := "unchanged"
	if done.Changed {
		state = "published"
	}
	b := appendNullable([]byte(`{"Name":`), done.Name)
	b = appendNullable(append(b, `,"VersionId":`...), done.VersionID)
	b = appendString(append(b, `,"State":`...), state)
	return response{status: http.StatusOK, body: append(b, '}'), json: true, id: p.id, role: p.role,
		subject: subject{secret: done.Name, version: done.VersionID}}
}
