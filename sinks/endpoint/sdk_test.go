package endpoint_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"secretsd/agent/secret"
	"secretsd/sinks/endpoint"
)

// client returns the SDK's client, as a program has it that sets nothing but the
// endpoint and its keys. It retries as it does by itself.
func client(s *endpoint.Server, id, key string) *sm.Client {
	return sm.New(sm.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String("http://" + s.Addr().String()),
		Credentials: credentials.NewStaticCredentialsProvider(id, key, ""),
	})
}

// recorder is an observer that keeps what it was told.
type recorder struct {
	mu   sync.Mutex
	seen []endpoint.Exchange
}

func (r *recorder) observe(e *endpoint.Exchange) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, *e)
	return nil
}

func (r *recorder) take() []endpoint.Exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen
	r.seen = nil
	return seen
}

const pinned = "11111111-d089-49ed-b97c-17086f8c9d79"

// sdkServer serves db at two stages, one secret that is binary, one that failed
// and one that only its client may not read.
func sdkServer(t *testing.T, reader endpoint.Reader) (*endpoint.Server, *recorder) {
	t.Helper()
	seen := new(recorder)
	o := endpoint.Options{Observe: seen.observe, Clients: []endpoint.Client{clientWith(t, "web", tokenA, "prod/db", "bin", "gone", "prod/demand", "down")}}
	current := version("prod/db", defaultVersion, secret.StageCurrent)
	old := version("prod/db", pinned, secret.StagePrevious)
	// As it was read when it was still the current one.
	old.Stages = append(old.Stages, secret.StageCurrent)
	previous := endpoint.Entry{Name: "db-old", IDs: []string{"prod/db", old.ARN}, Stage: secret.StagePrevious, Version: old, Confirmed: time.Now().Add(-time.Hour)}
	named := entry(current)
	named.Name = "db"
	bin := version("bin", defaultVersion, secret.StageCurrent)
	bin.Text, bin.Binary = secret.Value{}, secret.NewValue("\x00\x01\xff")
	gone := failing("gone", &secret.Error{Code: "ResourceNotFoundException", Message: "Secrets Manager can't find the specified secret."})
	s := start(t, o, reader, previous, named, entry(bin), gone, entry(version("other", defaultVersion, secret.StageCurrent)))
	return s, seen
}

func TestSDKReadsSecrets(t *testing.T) {
	s, _ := sdkServer(t, noReads(t))
	for _, key := range [][2]string{{"web", tokenA}, {endpoint.DefaultClient, token}} {
		c := client(s, key[0], key[1])
		for _, id := range []string{"prod/db", arn("prod/db"), "db"} {
			got, err := c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: aws.String(id)})
			if err != nil {
				t.Fatal(err)
			}
			want := &sm.GetSecretValueOutput{
				ARN: aws.String(arn("prod/db")), Name: aws.String("prod/db"), VersionId: aws.String(defaultVersion), SecretString: aws.String("hunter2"),
				VersionStages: []string{secret.StageCurrent}, CreatedDate: aws.Time(time.UnixMilli(1569534789046).UTC()),
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(sm.GetSecretValueOutput{}, "ResultMetadata"), cmpopts.IgnoreUnexported(sm.GetSecretValueOutput{})); diff != "" {
				t.Error(diff)
			}
		}
		bin, err := c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: aws.String("bin")})
		if err != nil || string(bin.SecretBinary) != "\x00\x01\xff" || bin.SecretString != nil {
			t.Errorf("the binary secret: %+v, %v", bin, err)
		}
		old, err := c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: aws.String("prod/db"), VersionStage: aws.String(secret.StagePrevious)})
		if err != nil || *old.VersionId != pinned {
			t.Errorf("the previous version: %+v, %v", old, err)
		}
		old, err = c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: aws.String("prod/db"), VersionId: aws.String(pinned)})
		if err != nil || *old.VersionId != pinned {
			t.Errorf("the previous version by its id: %+v, %v", old, err)
		}
	}
}

func TestSDKDescribesSecrets(t *testing.T) {
	s, seen := sdkServer(t, noReads(t))
	for _, id := range []string{"prod/db", "db", arn("prod/db")} {
		got, err := client(s, "web", tokenA).DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String(id)})
		if err != nil {
			t.Fatal(err)
		}
		// The label that two versions have is on the one that is followed by it.
		want := map[string][]string{defaultVersion: {secret.StageCurrent}, pinned: {secret.StagePrevious}}
		if *got.ARN != arn("prod/db") || *got.Name != "prod/db" || got.CreatedDate != nil || !cmp.Equal(want, got.VersionIdsToStages) {
			t.Errorf("%s: %+v", id, got)
		}
	}
	for _, e := range seen.take() {
		if e.Outcome != endpoint.OutcomeOK || e.Operation != "DescribeSecret" || e.ARN != arn("prod/db") || e.VersionID != "" {
			t.Errorf("observed %+v", e)
		}
	}
}

// TestSDKDescribesWhatIsAllowed has clients that may read one entry of several
// for one id.
func TestSDKDescribesWhatIsAllowed(t *testing.T) {
	now := time.Now()
	on := func(name, region, id string, stages ...string) endpoint.Entry {
		v := version("prod/db", id, stages[0])
		v.Stages, v.ARN = stages, strings.Replace(v.ARN, "us-west-2", region, 1)
		return endpoint.Entry{Name: name, IDs: []string{"prod/db", v.ARN}, Stage: stages[0], Version: v, Confirmed: now}
	}
	// What is followed by a label has it, wherever it stands and however old it is.
	current := on("current", "us-west-2", "v2", secret.StageCurrent)
	current.Confirmed = now.Add(-time.Hour)
	old := on("old", "us-west-2", "v1", secret.StagePrevious, secret.StageCurrent, "blue")
	older := on("older", "us-west-2", "v0", "green", "blue")
	older.Confirmed = now.Add(-time.Minute)
	entries := []endpoint.Entry{older, old, current, on("abroad", "eu-west-1", "v9", secret.StageCurrent)}
	for _, c := range []struct {
		allowed endpoint.Patterns
		arn     string
		want    map[string][]string
	}{
		{endpoint.Patterns{"*"}, arn("prod/db"), map[string][]string{"v0": {"green"}, "v1": {secret.StagePrevious, "blue"}, "v2": {secret.StageCurrent}}},
		{endpoint.Patterns{"current", "older"}, arn("prod/db"), map[string][]string{"v0": {"blue", "green"}, "v2": {secret.StageCurrent}}},
		{endpoint.Patterns{"abroad"}, strings.Replace(arn("prod/db"), "us-west-2", "eu-west-1", 1), map[string][]string{"v9": {secret.StageCurrent}}},
	} {
		o := endpoint.Options{Clients: []endpoint.Client{clientWith(t, "web", tokenA, c.allowed...)}}
		for range 2 {
			slices.Reverse(entries[:3])
			s := start(t, o, noReads(t), entries...)
			got, err := client(s, "web", tokenA).DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("prod/db")})
			if err != nil || *got.ARN != c.arn || !cmp.Equal(c.want, got.VersionIdsToStages) {
				t.Errorf("%v: %+v, %v", c.allowed, got, err)
			}
		}
	}
}

// TestSDKDescribesWhatIsRead describes a secret that only the Reader knows.
func TestSDKDescribesWhatIsRead(t *testing.T) {
	b := &backend{}
	s, _ := sdkServer(t, b)
	got, err := client(s, "web", tokenA).DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("prod/demand")})
	if err != nil || !cmp.Equal(map[string][]string{defaultVersion: {secret.StageCurrent}}, got.VersionIdsToStages) {
		t.Errorf("%+v, %v", got, err)
	}
	if q := b.take(); len(q) != 1 || q[0].ID != "prod/demand" || q[0].Stage != secret.StageCurrent || q[0].Rights == nil {
		t.Errorf("the reader was asked %+v", q)
	}
}

// TestSDKDescribesOtherLabels has a secret of which another label is configured:
// the current version is read for it, and where that fails the rest is told.
func TestSDKDescribesOtherLabels(t *testing.T) {
	pending := endpoint.Entry{Name: "db", IDs: []string{"prod/db", arn("prod/db")}, Stage: secret.StagePending,
		Version: version("prod/db", pinned, secret.StagePending), Confirmed: time.Now()}
	// The same name in another Region is another secret.
	elsewhere := version("prod/db", defaultVersion, "blue")
	elsewhere.ARN = strings.Replace(elsewhere.ARN, "us-west-2", "eu-west-1", 1)
	abroad := endpoint.Entry{Name: "abroad", IDs: []string{"prod/db", elsewhere.ARN}, Stage: "blue", Version: elsewhere, Confirmed: time.Now()}
	for _, fails := range []bool{false, true} {
		reader := readerFunc(func(_ context.Context, q endpoint.Query) (endpoint.Answer, error) {
			if fails || q.Stage != secret.StageCurrent {
				return endpoint.Answer{}, endpoint.ErrForbidden
			}
			return endpoint.Answer{Version: version("prod/db", defaultVersion, secret.StageCurrent), Confirmed: time.Now()}, nil
		})
		s := start(t, endpoint.Options{Clients: []endpoint.Client{clientWith(t, "none", tokenA, "nothing")}}, reader, pending, abroad)
		got, err := client(s, "default", token).DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("prod/db")})
		want := map[string][]string{pinned: {secret.StagePending}}
		if !fails {
			want[defaultVersion] = []string{secret.StageCurrent}
		}
		if err != nil || !cmp.Equal(want, got.VersionIdsToStages) || *got.ARN != arn("prod/db") {
			t.Errorf("fails %v: %+v, %v", fails, got, err)
		}
		fails = true
		for who, key := range map[string]string{"none": tokenA, "default": token} {
			id := map[string]string{"none": "prod/db", "default": "unknown"}[who]
			_, err := client(s, who, key).DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: &id})
			var api smithy.APIError
			if !errors.As(err, &api) || api.ErrorCode() != "AccessDeniedException" {
				t.Errorf("%s of %s: %v", id, who, err)
			}
		}
	}
}

func TestSDKReadsBatches(t *testing.T) {
	reader := readerFunc(func(_ context.Context, q endpoint.Query) (endpoint.Answer, error) {
		switch q.ID {
		case "prod/demand":
			return endpoint.Answer{Version: version("prod/demand", pinned, secret.StageCurrent), Confirmed: time.Now()}, nil
		case "down":
			return endpoint.Answer{}, context.DeadlineExceeded
		}
		return endpoint.Answer{}, endpoint.ErrForbidden
	})
	s, seen := sdkServer(t, reader)
	ids := []string{"prod/demand", "other", "prod/db", "gone", "down", "unknown"}
	got, err := client(s, "web", tokenA).BatchGetSecretValue(t.Context(), &sm.BatchGetSecretValueInput{SecretIdList: ids})
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	for _, v := range got.SecretValues {
		values = append(values, *v.Name+" "+*v.VersionId+" "+*v.SecretString)
	}
	if diff := cmp.Diff([]string{"prod/demand " + pinned + " hunter2", "prod/db " + defaultVersion + " hunter2"}, values); diff != "" {
		t.Error(diff)
	}
	codes := map[string]string{}
	for _, e := range got.Errors {
		codes[*e.SecretId] = *e.ErrorCode
		if *e.Message == "" {
			t.Errorf("no message for %s", *e.SecretId)
		}
	}
	want := map[string]string{"other": "AccessDeniedException", "unknown": "AccessDeniedException", "gone": "ResourceNotFoundException", "down": "InternalServiceError"}
	if diff := cmp.Diff(want, codes); diff != "" {
		t.Error(diff)
	}
	parts := []endpoint.Part{
		{Secret: "prod/demand", ARN: arn("prod/demand"), VersionID: pinned, Outcome: endpoint.OutcomeOK},
		{Secret: "other", Outcome: endpoint.OutcomeDenied},
		{Secret: "prod/db", ARN: arn("prod/db"), VersionID: defaultVersion, Outcome: endpoint.OutcomeOK},
		{Secret: "gone", Outcome: endpoint.OutcomeNotFound}, {Secret: "down", Outcome: endpoint.OutcomeFailed}, {Secret: "unknown", Outcome: endpoint.OutcomeDenied},
	}
	e := seen.take()
	if len(e) != 1 || e[0].Outcome != endpoint.OutcomeOK || e[0].Client != "web" || !cmp.Equal(parts, e[0].Parts) {
		t.Errorf("observed %+v", e)
	}
	if _, err := client(s, "web", tokenA).BatchGetSecretValue(t.Context(), &sm.BatchGetSecretValueInput{SecretIdList: []string{"other"}}); err != nil {
		t.Error(err)
	}
	if e := seen.take(); e[0].Outcome != endpoint.OutcomeDenied {
		t.Errorf("a batch of which nothing was given counts as %s", e[0].Outcome)
	}
}

// TestSDKRefusals sends with the SDK what is refused. It says the code and that
// the SDK asked once.
func TestSDKRefusals(t *testing.T) {
	b := &backend{errors: backendErrors(t)}
	s, seen := sdkServer(t, b)
	o := endpoint.Options{Clients: []endpoint.Client{clientWith(t, "web", tokenA, "prod/db", "gone"), clientWith(t, "all", tokenB, "*")}, Observe: seen.observe}
	if err := s.Configure(o, fixedTokens(t), nil); err != nil {
		t.Fatal(err)
	}
	get := func(id string) func(*sm.Client) error {
		return func(c *sm.Client) error {
			_, err := c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: &id})
			return err
		}
	}
	for _, c := range []struct {
		what, id, key string
		call          func(*sm.Client) error
		code, message string
		outcome       endpoint.Outcome
	}{
		{"unknown client", "nobody", tokenA, get("prod/db"), "UnrecognizedClientException", "name of one of the agent's clients", endpoint.OutcomeBadToken},
		{"wrong key", "web", tokenB, get("prod/db"), "InvalidSignatureException", "does not match the signature you provided", endpoint.OutcomeBadToken},
		{"another client's name", "default", tokenA, get("prod/db"), "InvalidSignatureException", "does not match", endpoint.OutcomeBadToken},
		{"not its own", "web", tokenA, get("other"), "AccessDeniedException", "not among those that this client may read", endpoint.OutcomeDenied},
		{"not found", "web", tokenA, get("gone"), "ResourceNotFoundException", "can't find", endpoint.OutcomeNotFound},
		{"KMS", "all", tokenB, get("KMSACCESSDENIEDTest"), "AccessDeniedException", kmsText, endpoint.OutcomeDenied},
		{"put", "web", tokenA, func(c *sm.Client) error {
			_, err := c.PutSecretValue(t.Context(), &sm.PutSecretValueInput{SecretId: aws.String("prod/db"), SecretString: aws.String("x")})
			return err
		}, "AccessDeniedException", "secretsd refuses PutSecretValue: the agent only reads", endpoint.OutcomeDenied},
		{"list", "default", token, func(c *sm.Client) error { _, err := c.ListSecrets(t.Context(), &sm.ListSecretsInput{}); return err },
			"AccessDeniedException", "secretsd refuses ListSecrets", endpoint.OutcomeDenied},
		{"filters", "default", token, func(c *sm.Client) error {
			_, err := c.BatchGetSecretValue(t.Context(), &sm.BatchGetSecretValueInput{Filters: []types.Filter{{Key: "name", Values: []string{"a"}}}})
			return err
		}, "InvalidParameterException", "knows no Filters", endpoint.OutcomeBadRequest},
	} {
		seen.take()
		err := c.call(client(s, c.id, c.key))
		var api smithy.APIError
		if !errors.As(err, &api) || api.ErrorCode() != c.code || !strings.Contains(api.ErrorMessage(), c.message) {
			t.Errorf("%s: %v", c.what, err)
		}
		if e := seen.take(); len(e) != 1 || e[0].Outcome != c.outcome || e[0].Method != http.MethodPost || (e[0].Client == "") != (c.outcome == endpoint.OutcomeBadToken) {
			t.Errorf("%s: observed %+v", c.what, e)
		}
	}
	var none *types.ResourceNotFoundException
	if err := get("gone")(client(s, "web", tokenA)); !errors.As(err, &none) {
		t.Errorf("not found is no %T: %v", none, err)
	}
}

// TestSDKFailuresAreRetried has the SDK try again what may pass.
func TestSDKFailuresAreRetried(t *testing.T) {
	b := &backend{errors: backendErrors(t)}
	s := start(t, endpoint.Options{}, b)
	for _, id := range []string{"TIMEOUT", "REFUSED", "OTHERERRORTest", "NOCREDENTIALS", "UNKNOWN", "NOMESSAGE", "INTERNALFAILURE", "ROLEDENIED", "UNAVAILABLE"} {
		_, err := client(s, "default", token).GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: &id}, atOnce)
		var internal *types.InternalServiceError
		if !errors.As(err, &internal) || internal.ErrorMessage() == "" {
			t.Errorf("%s: %v", id, err)
		}
		if n := len(b.take()); n != 3 {
			t.Errorf("%s: asked %d times", id, n)
		}
	}
}

// atOnce retries as the SDK does, but without its pauses.
func atOnce(o *sm.Options) {
	o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
		o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
	})
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// TestSDKAnswersOnTheWire looks at what the SDK's client hides.
func TestSDKAnswersOnTheWire(t *testing.T) {
	s, _ := sdkServer(t, unknown)
	ids := map[string]bool{}
	for _, c := range []struct {
		op, in string
		status int
		body   string
	}{
		{"GetSecretValue", `{"SecretId":"prod/db"}`, 200, `{"ARN":"` + arn("prod/db") + `","Name":"prod/db","VersionId":"` + defaultVersion +
			`","SecretString":"hunter2","VersionStages":["AWSCURRENT"],"CreatedDate":1569534789.046}`},
		{"DescribeSecret", `{"SecretId":"bin"}`, 200, `{"ARN":"` + arn("bin") + `","Name":"bin","VersionIdsToStages":{"` + defaultVersion + `":["AWSCURRENT"]}}`},
		{"BatchGetSecretValue", `{"SecretIdList":["other"]}`, 200, `{"SecretValues":[],"Errors":[{"SecretId":"other","ErrorCode":"AccessDeniedException","Message":"This secret is not among those that this client may read."}]}`},
		{"GetSecretValue", `{"SecretId":"gone"}`, 400, `{"__type":"ResourceNotFoundException","Message":"Secrets Manager can't find the specified secret."}`},
		{"GetSecretValue", `{"SecretId":"other"}`, 400, `{"__type":"AccessDeniedException","Message":"This secret is not among those that this client may read."}`},
		{"GetSecretValue", `{}`, 400, `{"__type":"ValidationException","message":"1 validation error detected: Value null at 'secretId' failed to satisfy constraint: Member must not be null"}`},
		{"GetSecretValue", `{"SecretId":""}`, 400, `{"__type":"ValidationException","message":"1 validation error detected: Value at 'secretId' failed to satisfy constraint: Member must have length greater than or equal to 1"}`},
		{"GetSecretValue", `{`, 400, `{"__type":"SerializationException","Message":"The request is not a JSON object."}`},
		{"DeleteSecret", `{`, 400, `{"__type":"AccessDeniedException","Message":"secretsd refuses DeleteSecret: the agent only reads, by GetSecretValue, BatchGetSecretValue and DescribeSecret."}`},
		{"getSecretValue", `{}`, 400, `{"__type":"AccessDeniedException","Message":"secretsd refuses getSecretValue: the agent only reads, by GetSecretValue, BatchGetSecretValue and DescribeSecret."}`},
		{"", `{}`, 400, `{"__type":"UnknownOperationException","message":"X-Amz-Target must name one operation."}`},
		{"Get<Value>", `{}`, 400, `{"__type":"UnknownOperationException","message":"X-Amz-Target must name one operation."}`},
		{strings.Repeat("X", 65), `{}`, 400, `{"__type":"UnknownOperationException","message":"X-Amz-Target must name one operation."}`},
	} {
		got := post(t, s, call{op: c.op, body: c.in, id: "web", key: tokenA})
		if got.status != c.status || got.body != c.body {
			t.Errorf("%s %s: %d %s, want %d %s", c.op, c.in, got.status, got.body, c.status, c.body)
		}
		id := got.header.Get("X-Amzn-Requestid")
		if !uuid.MatchString(id) || ids[id] {
			t.Errorf("%s: request id %q", c.op, id)
		}
		ids[id] = true
		if got.header.Get("Content-Type") != "application/x-amz-json-1.1" || got.header.Get("Cache-Control") != "no-store" ||
			got.header.Get("Content-Length") != strconv.Itoa(len(got.body)) || len(got.header["X-Amzn-Errortype"]) > 0 {
			t.Errorf("%s: headers %v", c.op, got.header)
		}
	}
}

// call is one signed request, which edit may change after it was signed.
type call struct {
	op, body, id, key string
	at                time.Time
	before, edit      func(*http.Request)
}

// post signs with the SDK's signer and sends.
func post(t *testing.T, s *endpoint.Server, c call) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.Addr().String()+"/", strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	return postTo(t, http.DefaultClient, r, c)
}

func postTo(t *testing.T, by *http.Client, r *http.Request, c call) reply {
	t.Helper()
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "secretsmanager."+c.op)
	if c.before != nil {
		c.before(r)
	}
	if c.at.IsZero() {
		c.at = time.Now()
	}
	if c.id != "" {
		sign(t, r, c)
	}
	if c.edit != nil {
		c.edit(r)
	}
	resp, err := by.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{status: resp.StatusCode, header: resp.Header, body: string(body)}
}

// TestSDKStaleValuesSaySo shows that the headers of the other routes are here too.
func TestSDKStaleValuesSaySo(t *testing.T) {
	stale := entry(version("db", defaultVersion, secret.StageCurrent))
	stale.Stale, stale.Confirmed = true, time.Now().Add(-time.Hour)
	s := start(t, endpoint.Options{}, noReads(t), stale, entry(version("fresh", defaultVersion, secret.StageCurrent)))
	for op, in := range map[string]string{"GetSecretValue": `{"SecretId":"db"}`, "DescribeSecret": `{"SecretId":"db"}`, "BatchGetSecretValue": `{"SecretIdList":["fresh","db"]}`} {
		got := post(t, s, call{op: op, body: in, id: "default", key: token})
		age, _ := strconv.Atoi(got.header.Get("Age"))
		if got.status != 200 || got.header.Get("X-Secretsd-Stale") != "true" || age < 3600 || age > 3700 {
			t.Errorf("%s: %d %v", op, got.status, got.header)
		}
	}
}

// TestSDKBatchReadsAtTheSameTime has every secret wait for all others.
func TestSDKBatchReadsAtTheSameTime(t *testing.T) {
	const n = 20
	var all sync.WaitGroup
	all.Add(n)
	reader := readerFunc(func(_ context.Context, q endpoint.Query) (endpoint.Answer, error) {
		all.Done()
		all.Wait()
		return endpoint.Answer{Version: version(q.ID, defaultVersion, secret.StageCurrent)}, nil
	})
	s := start(t, endpoint.Options{}, reader)
	ids := make([]string, n)
	for i := range ids {
		ids[i] = "s" + strconv.Itoa(i)
	}
	in, err := json.Marshal(map[string]any{"SecretIdList": ids})
	if err != nil {
		t.Fatal(err)
	}
	got := post(t, s, call{op: "BatchGetSecretValue", body: string(in), id: "default", key: token})
	var out struct{ SecretValues []struct{ Name string } }
	if err := json.NewDecoder(bytes.NewReader([]byte(got.body))).Decode(&out); err != nil || len(out.SecretValues) != n {
		t.Fatalf("%d %.200s, %v", got.status, got.body, err)
	}
	if names := out.SecretValues; !slices.EqualFunc(names, ids, func(a struct{ Name string }, b string) bool { return a.Name == b }) {
		t.Errorf("in the order %v", names)
	}
}

// TestSDKObserverForbids shows that a required audit line counts here too.
func TestSDKObserverForbids(t *testing.T) {
	o := endpoint.Options{Observe: func(*endpoint.Exchange) error { return errors.New("disk full") }}
	s := start(t, o, noReads(t), entry(version("db", defaultVersion, secret.StageCurrent)))
	got := post(t, s, call{op: "GetSecretValue", body: `{"SecretId":"db"}`, id: "default", key: token})
	if got.status != 500 || !strings.HasPrefix(got.body, `{"__type":"InternalServiceError"`) || strings.Contains(got.body, "disk") || got.header.Get("X-Amzn-Requestid") == "" {
		t.Errorf("answered %d %s", got.status, got.body)
	}
}
