package local

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// Options are what [New] needs. The zero value is complete.
type Options struct {
	// Region stands in ARNs. Default: us-east-1.
	Region string
	// Account is the twelve-digit account number in ARNs. Default:
	// 123456789012.
	Account string
	// Now gives the time of dates and of the end of recovery windows. Default:
	// time.Now.
	Now func() time.Time
	// Logger receives what [Service.Watch] has to say. Nothing else logs.
	// Default: none.
	Logger *slog.Logger
	// Rand is the source of ARN suffixes, version ids, request ids and
	// passwords; a test sets it to repeat itself. Reads are made one at a time.
	// Default: crypto/rand.
	Rand io.Reader
	// Fault is the hook that injects faults, as in [Service.SetFault]. Default:
	// none.
	Fault func(op, secretID string) *Fault
}

// Service is a Secrets Manager of one account and Region. It is safe for
// concurrent use. Make one with [New].
type Service struct {
	arnPrefix string
	now       func() time.Time
	log       *slog.Logger
	fault     atomic.Pointer[func(op, secretID string) *Fault]
	calls     map[string]*atomic.Int64 // by operation; the map is never written after New

	randMu sync.Mutex
	rand   io.Reader

	mu      sync.Mutex
	secrets map[string]*entry // by name
	created int               // counts secrets, for the order of lists
	files   map[string]*loadedFile
}

// New returns a service without secrets. It starts nothing and needs no
// closing.
func New(opts Options) *Service {
	region := cmp.Or(opts.Region, "us-east-1")
	s := &Service{
		arnPrefix: "arn:" + partition(region) + ":secretsmanager:" + region + ":" + cmp.Or(opts.Account, "123456789012") + ":secret:",
		now:       opts.Now,
		log:       opts.Logger,
		rand:      opts.Rand,
		calls:     make(map[string]*atomic.Int64, len(operations)),
		secrets:   map[string]*entry{},
		files:     map[string]*loadedFile{},
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.rand == nil {
		s.rand = rand.Reader
	}
	for op := range operations {
		s.calls[op] = new(atomic.Int64)
	}
	s.SetFault(opts.Fault)
	return s
}

// partition returns the ARN partition of a Region.
func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	default:
		return "aws"
	}
}

// Put gives the secret of that name a new AWSCURRENT version holding value, and
// creates the secret if there is none. It is meant for samples made in Go. The
// error is what the service would answer to CreateSecret or PutSecretValue.
func (s *Service) Put(name, value string) error {
	var v violations
	v.text("name", &name, 1, 512)
	v.value(&value, nil)
	if err := v.err(); err != nil {
		return err
	}
	if err := checkName(name); err != nil {
		return err
	}
	if !utf8.ValidString(value) {
		return invalidParameter("The value is not UTF-8.")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.live(name)
	if e == nil {
		e = s.add(name)
	}
	if e.deletion != nil {
		return errDeleted()
	}
	if err := e.addVersion(s.newVersion(s.uuid(), textValue(value)), []string{stageCurrent}); err != nil {
		return err
	}
	return nil
}

// operation is one action of the protocol: how its request is read, and what
// it does.
type operation struct {
	decode func(body []byte) (request, *apiError)
	run    func(context.Context, *Service, request) (any, error)
}

// request is the decoded input of an operation.
type request interface {
	// validate adds the constraints of the API model that it breaks.
	validate(*violations)
	// id is the secret id it names, or "".
	id() string
}

// action makes an operation of a method. An answer of nil is an empty body, as
// the service gives for operations without output.
func action[T any, P interface {
	*T
	request
}](run func(*Service, context.Context, P) (any, error)) operation {
	return operation{
		decode: func(body []byte) (request, *apiError) {
			in := P(new(T))
			if err := decodeJSON(body, in); err != nil {
				return nil, err
			}
			return in, nil
		},
		run: func(ctx context.Context, s *Service, in request) (any, error) {
			return run(s, ctx, in.(P)) //nolint:errcheck // decode made it a P
		},
	}
}

// operations are what the service speaks, by the name in X-Amz-Target.
var operations = map[string]operation{
	"BatchGetSecretValue":      action((*Service).batchGetSecretValue),
	"CreateSecret":             action((*Service).createSecret),
	"DeleteSecret":             action((*Service).deleteSecret),
	"DescribeSecret":           action((*Service).describeSecret),
	"GetRandomPassword":        action((*Service).getRandomPassword),
	"GetSecretValue":           action((*Service).getSecretValue),
	"ListSecretVersionIds":     action((*Service).listSecretVersionIDs),
	"ListSecrets":              action((*Service).listSecrets),
	"PutSecretValue":           action((*Service).putSecretValue),
	"RestoreSecret":            action((*Service).restoreSecret),
	"TagResource":              action((*Service).tagResource),
	"UntagResource":            action((*Service).untagResource),
	"UpdateSecret":             action((*Service).updateSecret),
	"UpdateSecretVersionStage": action((*Service).updateSecretVersionStage),
}

// random fills a slice of n bytes. A source that fails is a fault of the
// machine that nothing here can mend; crypto/rand itself never fails.
func (s *Service) random(n int) []byte {
	b := make([]byte, n)
	s.randMu.Lock()
	defer s.randMu.Unlock()
	if _, err := io.ReadFull(s.rand, b); err != nil {
		panic("local: read random source: " + err.Error())
	}
	return b
}

// pick returns a number below n, each with the same probability.
func (s *Service) pick(n int) int {
	limit := 1 << 16 / n * n
	for {
		b := s.random(2)
		if v := int(b[0])<<8 | int(b[1]); v < limit {
			return v % n
		}
	}
}

// uuid returns a random UUID (RFC 9562, version 4) in its usual form.
func (s *Service) uuid() string {
	b := s.random(16)
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// suffix returns the six random characters at the end of an ARN.
func (s *Service) suffix() string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	b := make([]byte, 6)
	for i := range b {
		b[i] = alphabet[s.pick(len(alphabet))]
	}
	return string(b)
}
