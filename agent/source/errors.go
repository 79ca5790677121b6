package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"secretsd/agent/secret"
)

// notUnderstood stands for what the SDK has to say about an answer it cannot
// read: that text quotes the answer.
const notUnderstood = "the answer could not be understood"

// classify turns an error of the SDK into ours. The endpoint answers its
// clients by these marks:
//
//   - Code is set: the service answered an error; Code, Message and Status are
//     its own, and Message is empty if it sent none.
//   - errors.Is(err, context.DeadlineExceeded): no answer in time.
//   - Code empty, Status set: an answer that is not understood.
//   - Op "credentials": there are no credentials. Op "AssumeRole" and
//     "AssumeRoleWithWebIdentity": STS refused or could not be asked.
//   - else, Kind Transient and Status 0: no connection.
func classify(op string, err error) *secret.Error {
	// The innermost mark counts: STS itself may have been without credentials.
	var chain *credentialsError
	for inner := err; errors.As(inner, &chain); {
		err, inner = chain.err, chain.err
	}
	if chain != nil {
		return credentialError(err)
	}
	status := httpStatus(err)
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		if code, message := apiWords(api); code != "" {
			return serviceError(op, code, message, status)
		}
		return unreadable(op, status, fmt.Sprintf("HTTP status %d without an error code", status))
	}
	if e := noAnswer(op, err); e != nil {
		return e
	}
	if _, ok := errors.AsType[*smithy.DeserializationError](err); ok || status != 0 {
		return unreadable(op, status, notUnderstood)
	}
	// Nothing was received, so the text is the SDK's own: for example that an
	// endpoint and FIPS exclude each other.
	return &secret.Error{Kind: secret.Invalid, Op: op, Message: oneLine(err.Error())}
}

// apiWords returns the code and message that the service sent, without the
// SDK's stand-ins for missing ones.
func apiWords(api smithy.APIError) (code, message string) {
	const missing = "UnknownError"
	code, message = api.ErrorCode(), api.ErrorMessage()
	if code == missing {
		code = ""
	}
	if message == missing {
		message = ""
	}
	return code, message
}

func httpStatus(err error) int {
	if re, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && re.Response != nil && re.Response.Response != nil {
		return re.Response.StatusCode
	}
	return 0
}

// noAnswer returns the error of a call that was not answered to its end, or
// nil if err is of another sort.
func noAnswer(op string, err error) *secret.Error {
	e := &secret.Error{Kind: secret.Transient, Op: op}
	var timeout interface{ Timeout() bool }
	_, unsent := errors.AsType[*smithyhttp.RequestSendError](err)
	switch {
	case errors.Is(err, context.Canceled):
		e.Message, e.Err = "cancelled", context.Canceled
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		e.Message, e.Err = "no answer in time", context.DeadlineExceeded
		e.Remedy = "check the endpoint, DNS, the proxy (HTTPS_PROXY, NO_PROXY) and the security group of the VPC endpoint"
	case unsent || brokenOff(err):
		e.Message, e.Err = connectionCause(err)
		e.Remedy = "check the endpoint, DNS and the proxy (HTTPS_PROXY, NO_PROXY)"
		if e.Err != nil && isCertificateError(e.Err) {
			e.Remedy = "name the authority that signed the endpoint's certificate in AWS_CA_BUNDLE"
		}
	default:
		return nil
	}
	return e
}

// brokenOff reports whether reading an answer of status 2xx ended before the
// answer did. With other statuses the same error can come from the text itself.
func brokenOff(err error) bool {
	if status := httpStatus(err); status < 200 || status > 299 {
		return false
	}
	_, isNet := errors.AsType[*net.OpError](err)
	return isNet || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

// connectionCause returns the part of err that may be shown. Other errors of
// net/http quote what the peer sent ("malformed HTTP response …").
func connectionCause(err error) (string, error) {
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return e.Error(), e
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return e.Error(), e
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return oneLine(e.Error()), e
	}
	if e, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		// The value holds the connection and the bytes read: its text alone.
		return e.Error(), nil
	}
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return e.Error(), e
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return "connection closed before the answer was whole", io.ErrUnexpectedEOF
	}
	return "connection failed", nil
}

func isCertificateError(err error) bool {
	_, verify := errors.AsType[*tls.CertificateVerificationError](err)
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	return verify || unknown
}

// unreadable is the error of an answer that holds no error code and no secret:
// a proxy's page, an XML refusal, a body that ends early.
func unreadable(op string, status int, text string) *secret.Error {
	e := &secret.Error{Kind: kindOfStatus(status), Op: op, Status: status, Message: text}
	if status != 0 && text == notUnderstood {
		e.Message = fmt.Sprintf("the answer of HTTP status %d could not be understood", status)
	}
	if e.Kind == secret.Denied {
		e.Remedy = "check the agent's IAM policy, the VPC endpoint's policy and any proxy in between"
	}
	return e
}

// credentialError is the error of a client that got no credentials. There may
// be some later, so it is transient unless STS has refused.
func credentialError(err error) *secret.Error {
	op := opCredentials
	if call, ok := errors.AsType[*smithy.OperationError](err); ok && call.ServiceID == "STS" {
		op = call.OperationName
		if api, ok := errors.AsType[smithy.APIError](err); ok {
			if code, message := apiWords(api); code != "" {
				e := serviceError(op, code, message, httpStatus(err))
				if e.Kind == secret.Denied {
					e.Remedy = "let the role's trust policy admit the agent's identity (and its external id), and the agent's policy allow sts:" + op
				}
				return e
			}
		}
	}
	const hint = "give the agent credentials: a role of its pod, task or instance, AWS_* variables, or source.aws.credentials_file"
	if e := noAnswer(op, err); e != nil {
		if op == opCredentials {
			e.Message = "no AWS credentials: " + e.Message
			e.Remedy = hint
		}
		return e
	}
	if op != opCredentials {
		return unreadable(op, httpStatus(err), notUnderstood)
	}
	e := &secret.Error{Kind: secret.Transient, Op: op, Message: "no AWS credentials: " + credentialText(err), Remedy: hint}
	var option *OptionError
	if errors.As(err, &option) {
		e.Remedy = option.hint
	}
	return e
}

// credentialText returns why there are no credentials, without what a
// credential process or endpoint has put out.
func credentialText(err error) string {
	if e, ok := errors.AsType[*processcreds.ProviderError](err); ok {
		var exit interface{ ExitCode() int }
		if errors.As(e, &exit) {
			return fmt.Sprintf("credential_process ended with exit code %d", exit.ExitCode())
		}
		return "credential_process failed or its output could not be understood"
	}
	if _, ok := errors.AsType[*smithy.DeserializationError](err); ok {
		return notUnderstood
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return oneLine(strings.TrimPrefix(api.ErrorCode()+": "+api.ErrorMessage(), ": "))
	}
	return oneLine(err.Error())
}

// oneLine returns s on one line, and not more of it than a log line bears.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	const limit = 500
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "..."
	}
	return s
}

// invalidRef is the error of a ref that no service needs to be asked about.
func invalidRef(id, message, hint string) *secret.Error {
	return &secret.Error{Kind: secret.Invalid, Op: opGet, ID: id, Message: message, Remedy: hint}
}

func asSecretError(err error) *secret.Error {
	if e, ok := errors.AsType[*secret.Error](err); ok {
		return e
	}
	return &secret.Error{Kind: secret.Transient, Message: err.Error(), Err: err}
}
