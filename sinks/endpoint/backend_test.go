package endpoint_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"secretsd/agent/secret"
	"secretsd/sinks/endpoint"
)

// refused returns what connecting to a port nobody listens on really gives.
func refused(t *testing.T) error {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	_, err = net.Dial("tcp", l.Addr().String())
	if err == nil {
		t.Fatal("something took the port over")
	}
	return err
}

// socketTimeout returns what reading past a deadline really gives.
func socketTimeout(t *testing.T) error {
	t.Helper()
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_ = l.SetReadDeadline(time.Unix(1, 0))
	_, _, err = l.ReadFrom(make([]byte, 1))
	return err
}

// backendErrors are the errors of the contract's backend, by secret id.
func backendErrors(t *testing.T) map[string]error {
	// As agent/source makes them when there was no answer.
	unanswered := func(op, message string, cause error) error {
		return fmt.Errorf("refresh: %w", &secret.Error{Op: op, Message: message, Err: cause})
	}
	service := func(status int, code, message string) error {
		return fmt.Errorf("refresh: %w", &secret.Error{Op: "GetSecretValue", Code: code, Message: message, Status: status})
	}
	return map[string]error{
		"KMSACCESSDENIEDTest": service(400, "AccessDeniedException", kmsText),
		"OTHERERRORTest":      service(400, "InvalidSignatureException", signatureText),
		"NOTFOUNDx":           service(400, "ResourceNotFoundException", notFoundText),
		"UNAVAILABLE":         service(500, "InternalServiceError", "try later"),
		"NOMESSAGE":           service(400, "SomethingException", ""),
		"INTERNALFAILURE":     service(503, "InternalFailure", "details"),
		"REFUSED":             unanswered("GetSecretValue", "dial", refused(t)),
		"BARE":                refused(t),
		"BROKEN":              unanswered("GetSecretValue", "connection failed", nil),
		"GARBAGE":             &secret.Error{Op: "GetSecretValue", Status: 200, Message: "the answer could not be understood"},
		"SDKSAYSNO":           &secret.Error{Op: "GetSecretValue", Kind: secret.Invalid, Message: "endpoint and FIPS exclude each other"},
		"UNKNOWN":             errors.New("something else"),
		"TIMEOUT":             unanswered("GetSecretValue", "no answer in time", context.DeadlineExceeded),
		"SOCKETTIMEOUT":       socketTimeout(t),
		"NOCREDENTIALS":       unanswered("credentials", "no AWS credentials", nil),
		"NOTOKENSERVICE":      unanswered("AssumeRoleWithWebIdentity", "dial", refused(t)),
		"SLOWCREDENTIALS":     unanswered("credentials", "no answer in time", context.DeadlineExceeded),
		"ROLEDENIED":          &secret.Error{Op: "AssumeRole", Kind: secret.Denied, Code: "AccessDenied", Message: "not authorized", Status: 403},
		"ROLEINVALID":         &secret.Error{Op: "AssumeRole", Kind: secret.Invalid, Code: "ValidationError", Message: "no", Status: 400},
		"ROLETHROTTLED":       &secret.Error{Op: "AssumeRole", Kind: secret.Throttled, Code: "Throttling", Message: "Rate exceeded", Status: 400},
		"ROLEREFUSED":         unanswered("AssumeRole", "dial", refused(t)),
		"ROLESLOW":            unanswered("AssumeRole", "no answer in time", context.DeadlineExceeded),
		"NOTCONFIGURED":       service(0, "AccessDeniedException", "not configured"),
	}
}

// backend answers as the contract's stub does and remembers what it was asked.
type backend struct {
	errors map[string]error

	mu   sync.Mutex
	seen []endpoint.Query
}

func (b *backend) Read(_ context.Context, q endpoint.Query) (endpoint.Answer, error) {
	b.mu.Lock()
	b.seen = append(b.seen, q)
	b.mu.Unlock()
	if err := b.errors[q.ID]; err != nil {
		return endpoint.Answer{}, err
	}
	name := strings.TrimSuffix(strings.TrimPrefix(q.ID, "arn:aws:secretsmanager:us-west-2:123456789012:secret:"), "-NhBWsc")
	id, stage := q.VersionID, q.Stage
	if id == "" {
		id = defaultVersion
	}
	if stage == "" {
		stage = secret.StageCurrent
	}
	return endpoint.Answer{Version: version(name, id, stage), Confirmed: time.Now()}, nil
}

func (b *backend) take() []endpoint.Query {
	b.mu.Lock()
	defer b.mu.Unlock()
	seen := b.seen
	b.seen = nil
	return seen
}
