package endpoint

import (
	"context"
	"errors"
	"net"
	"net/http"

	"secretsd/agent/secret"
)

const internalFailure = "InternalFailure"

// The answers where the service, or STS before it, gave none.
var (
	respTimeout     = jsonError(http.StatusGatewayTimeout, "TimeoutError", "Timeout")
	respUnreachable = jsonError(http.StatusBadGateway, "ConnectionError", "Read Error")
)

// errorResponse maps a failed read to what the peer answers for it. An error
// of the service keeps its code, message and HTTP status (400 where it has
// none, as our own refusals do); one without a message is an InternalFailure.
// What failed on the way is told apart as timeout, connection or neither; all
// that failed on the way to credentials is neither.
func errorResponse(err error) response {
	var e *secret.Error
	found := errors.As(err, &e)
	switch {
	case found && e.Code != "":
		return serviceError(e)
	case found && forCredentials(e.Op):
		return jsonError(http.StatusInternalServerError, internalFailure, "")
	case isTimeout(err):
		return respTimeout
	case found && e.Kind == secret.Transient && e.Status == 0, isConnection(err):
		return respUnreachable
	default:
		return jsonError(http.StatusInternalServerError, internalFailure, "")
	}
}

// forCredentials reports whether an operation is one of those that only get
// credentials, as agent/source names them.
func forCredentials(op string) bool {
	return op == "credentials" || op == "AssumeRole" || op == "AssumeRoleWithWebIdentity"
}

func serviceError(e *secret.Error) response {
	status := clientStatus(e.Status)
	switch {
	case e.Code == internalFailure:
		if e.Status == 0 {
			status = http.StatusInternalServerError
		}
		return jsonError(status, internalFailure, "")
	case e.Message == "":
		return jsonError(http.StatusInternalServerError, internalFailure, "")
	default:
		return jsonError(status, e.Code, e.Message)
	}
}

// clientStatus returns the status of an answer with the service's error: its own,
// or 400 where it has none.
func clientStatus(status int) int {
	if status < 400 || status > 599 {
		return http.StatusBadRequest
	}
	return status
}

func jsonError(status int, code, message string) response {
	return response{status: status, body: encodeError(code, message), json: true}
}

func isTimeout(err error) bool {
	// os.ErrDeadlineExceeded is a net.Error too.
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

func isConnection(err error) bool {
	var op *net.OpError
	return errors.As(err, &op)
}
