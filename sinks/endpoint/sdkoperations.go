package endpoint

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"secretsd/agent/secret"
)

// asker is whom an answer is for, and what it is taken from.
type asker struct {
	rights *Rights
	view   *View
}

// sdkOperation answers a request whose caller is known.
func (c *core) sdkOperation(ctx context.Context, who *client, r *request, op string, body []byte) response {
	var run func(context.Context, asker, sdkInput) response
	switch op {
	case "GetSecretValue":
		run = c.sdkGet
	case "BatchGetSecretValue":
		run = c.sdkBatch
	case "DescribeSecret":
		run = c.sdkDescribe
	case "":
		return sdkError(sdkNoOperation)
	default:
		return sdkError(refusedOperation(op))
	}
	if media := r.post.values("Content-Type"); len(media) != 1 || !isSDKType(media[0]) {
		return sdkError(sdkMediaType)
	}
	in, err := parseSDKInput(body)
	if err != nil {
		return sdkError(err)
	}
	return run(ctx, asker{who.rights, r.view}, in)
}

// isSDKType reports whether a Content-Type is the protocol's, whatever its
// parameters.
func isSDKType(value string) bool {
	media, _, _ := strings.Cut(value, ";")
	return strings.EqualFold(strings.TrimSpace(media), sdkContentType)
}

func (c *core) sdkGet(ctx context.Context, who asker, in sdkInput) response {
	p, err := in.version()
	if err != nil {
		return sdkError(err).about(p.id, nil)
	}
	a, err := c.version(ctx, who, &p)
	if err != nil {
		return sdkError(err).about(p.id, nil)
	}
	r := response{status: http.StatusOK, body: appendSDKVersion(nil, a.Version), json: true, stale: a.Stale, confirmed: a.Confirmed,
		subject: subject{secret: cmp.Or(a.Name, a.Version.ARN), version: a.Version.VersionID}}
	return r.about(p.id, a.Version)
}

// sdkBatch answers for each of the secrets as sdkGet does. What the view has not
// got is read at the same time, so that all of it takes no longer than one.
func (c *core) sdkBatch(ctx context.Context, who asker, in sdkInput) response {
	ids, err := in.batch()
	if err != nil {
		return sdkError(err)
	}
	answers, errs := make([]Answer, len(ids)), make([]error, len(ids))
	var reads sync.WaitGroup
	for i, id := range ids {
		p := &params{id: id}
		var known bool
		if answers[i], known, errs[i] = who.find(p); known {
			continue
		}
		reads.Go(func() { answers[i], errs[i] = c.fromReader(ctx, who, p) })
	}
	reads.Wait()
	return batchResponse(ids, answers, errs)
}

func batchResponse(ids []string, answers []Answer, errs []error) response {
	r := response{status: http.StatusOK, json: true, parts: make([]Part, len(ids))}
	values, failures := []byte(`{"SecretValues":[`), []byte(`],"Errors":[`)
	for i, id := range ids {
		part := &r.parts[i]
		part.Secret = id
		if errs[i] != nil {
			part.Outcome = appendFailure(&failures, id, errs[i])
			continue
		}
		a := &answers[i]
		values = appendSDKVersion(appendComma(values), a.Version)
		part.ARN, part.VersionID, part.Outcome = a.Version.ARN, a.Version.VersionID, OutcomeOK
		if a.Stale {
			part.Outcome, r.stale = OutcomeStale, true
		}
		if r.confirmed.IsZero() || a.Confirmed.Before(r.confirmed) {
			r.confirmed = a.Confirmed
		}
	}
	r.body = append(append(values, failures...), "]}"...)
	if !slices.ContainsFunc(errs, func(err error) bool { return err == nil }) {
		r.as = r.parts[0].Outcome
	}
	return r
}

// appendFailure appends what a batch says of a secret it could not give, and
// returns how that counts.
func appendFailure(b *[]byte, id string, err error) Outcome {
	code, message, _, _ := sdkFailure(err)
	*b = appendString(append(appendComma(*b), `{"SecretId":`...), id)
	*b = appendString(append(*b, `,"ErrorCode":`...), code)
	*b = appendString(append(*b, `,"Message":`...), message)
	*b = append(*b, '}')
	resp := sdkError(err)
	return resp.outcome()
}

// appendComma appends a comma unless b ends where a list begins.
func appendComma(b []byte) []byte {
	if b[len(b)-1] != '[' && b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	return b
}

// sdkDescribe answers with what the agent knows of a secret: its ARN, its name,
// and its labels on the versions that are held. The rest of what the service
// says (dates, tags, rotation, description, key, replicas) it does not read.
func (c *core) sdkDescribe(ctx context.Context, who asker, in sdkInput) response {
	id, err := in.secretID()
	if err != nil {
		return sdkError(err).about(id, nil)
	}
	held := who.view.versionsOf(id, who.rights)
	if !slices.ContainsFunc(held, func(s *served) bool { return s.version.HasStage(secret.StageCurrent) }) {
		current := params{id: id, stage: secret.StageCurrent}
		switch a, err := c.version(ctx, who, &current); {
		case err == nil:
			held = append(held, &served{version: a.Version, stage: secret.StageCurrent, response: response{confirmed: a.Confirmed, stale: a.Stale}})
		case len(held) == 0:
			return sdkError(err).about(id, nil)
		}
	}
	return describe(id, held)
}

func describe(id string, held []*served) response {
	arn, name := held[0].version.ARN, held[0].version.Name
	b := appendString([]byte(`{"ARN":`), arn)
	b = appendString(append(b, `,"Name":`...), name)
	b = append(b, `,"VersionIdsToStages":{`...)
	labels := labelsOf(held)
	for _, version := range slices.Sorted(maps.Keys(labels)) {
		b = append(appendString(appendComma(b), version), ':')
		b = appendStrings(b, labels[version])
	}
	r := response{status: http.StatusOK, body: append(b, "}}"...), json: true, subject: subject{secret: arn}}
	for _, s := range held {
		r.stale = r.stale || s.response.stale
		if r.confirmed.IsZero() || s.response.confirmed.Before(r.confirmed) {
			r.confirmed = s.response.confirmed
		}
	}
	return r.about(id, &secret.Version{ARN: arn})
}

// labelsOf returns the labels of versions that have any. A label is on one
// version only, but the versions were not read at one moment: it is on the one
// that is followed by it, or else the one confirmed last.
func labelsOf(held []*served) map[string][]string {
	owner := map[string]*served{}
	for _, s := range held {
		for _, label := range s.version.Stages {
			if o := owner[label]; o == nil || label != o.stage && (label == s.stage || o.response.confirmed.Before(s.response.confirmed)) {
				owner[label] = s
			}
		}
	}
	labels := map[string][]string{}
	for label, s := range owner {
		labels[s.version.VersionID] = append(labels[s.version.VersionID], label)
	}
	for _, list := range labels {
		slices.Sort(list)
	}
	return labels
}

// version returns the version that p asks for, from the view or else from the
// Reader.
func (c *core) version(ctx context.Context, who asker, p *params) (Answer, error) {
	if a, known, err := who.find(p); known {
		return a, err
	}
	return c.fromReader(ctx, who, p)
}

// find returns what the view has for p, if that is known.
func (who asker) find(p *params) (a Answer, known bool, err error) {
	hit := who.view.find(p)
	switch {
	case hit == nil || hit.response.status == 0 || !hit.allowed(who.rights):
		return Answer{}, false, nil
	case hit.version == nil:
		return Answer{}, true, hit.err
	}
	return Answer{Name: hit.name, Version: hit.version, Stale: hit.response.stale, Confirmed: hit.response.confirmed}, true, nil
}

func (c *core) fromReader(ctx context.Context, who asker, p *params) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	a, err := c.reader.Read(ctx, Query{ID: p.id, VersionID: p.versionID, Stage: p.stage, Rights: who.rights, Of: who.view.Of})
	if hit := who.view.find(p); hit != nil && hit.response.status != 0 && !hit.allowed(who.rights) {
		return Answer{}, ErrForbidden // whatever the Reader says, as for every request
	}
	return a, err
}

// appendSDKVersion appends the GetSecretValue object of v, whose date is a
// number here.
func appendSDKVersion(b []byte, v *secret.Version) []byte {
	b = appendVersion(b, v)
	if !v.Created.IsZero() {
		b = appendSeconds(append(b, `,"CreatedDate":`...), v.Created)
	}
	return append(b, '}')
}
