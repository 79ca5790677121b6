package endpoint

import (
	"context"
	"net/http"
	"time"

	"secretsd/agent/secret"
)

const pathRefresh = "/secretsd/refresh"

// refreshTime is how long the Refresher may take.
const refreshTime = 70 * time.Second

// Refresher reads a secret for a program that has just been refused with the
// version it has.
type Refresher interface {
	// Refresh reads the secret until the version at its stage is none of refused any
	// more, for up to a minute, and returns when what it found has been published.
	// Where a rotation is under way it may answer with its pending version before.
	// With no refused it reads once. Rights and errors are as for [Reader.Read].
	Refresh(ctx context.Context, q Query, refused []string) (Refreshed, error)
}

// Refreshed is the outcome of a refresh.
type Refreshed struct {
	// Name is the configured name, or the ARN of a secret that has none.
	Name      string
	VersionID string
	// Changed says that the version is none of those refused or, where there are
	// none, another one than before.
	Changed bool
	// Pending is the version at AWSPENDING, or nil. The caller alone is given its
	// value: the version at the stage is one of those refused, so that the database
	// has this one by now, or will have it soon. VersionID is its id then.
	Pending *secret.Version
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
	return response{status: http.StatusOK, body: encodeRefreshed(&done), json: true, id: p.id, role: p.role,
		version: done.Pending, subject: subject{secret: done.Name, version: done.VersionID}}
}

func encodeRefreshed(done *Refreshed) []byte {
	b := appendNullable([]byte(`{"Name":`), done.Name)
	b = appendNullable(append(b, `,"VersionId":`...), done.VersionID)
	b = append(b, `,"State":`...)
	switch {
	case done.Pending != nil:
		b = appendString(append(b, `"pending","Stage":`...), secret.StagePending)
		b = appendValue(b, done.Pending)
	case done.Changed:
		b = append(b, `"published"`...)
	default:
		b = append(b, `"unchanged"`...)
	}
	return append(b, '}')
}
