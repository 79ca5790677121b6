package endpoint

import (
	"errors"
	"net/http"
	"strings"

	"secretsd/agent/secret"
)

// sdkFault is an answer to an SDK that we make ourselves. Codes and, where the
// service has a text, messages are the service's.
type sdkFault struct {
	code, message string
	status        int // 0 means 400, which is what the service answers its own refusals with
	outcome       Outcome
}

// Error returns the code and the message.
func (f *sdkFault) Error() string { return f.code + ": " + f.message }

var (
	sdkMissingToken = &sdkFault{code: "MissingAuthenticationTokenException", message: "Missing Authentication Token", outcome: OutcomeBadToken}
	// The message is the one people know; only our own half says what to do.
	sdkUnknownKey = &sdkFault{code: "UnrecognizedClientException", outcome: OutcomeBadToken,
		message: "The security token included in the request is invalid. The access key id must be the name of one of the agent's clients, and the secret key its token."}
	sdkWrongSignature = &sdkFault{code: "InvalidSignatureException", outcome: OutcomeBadToken,
		message: "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. The secret key must be the token of the agent's client that the access key id names."}
	sdkForwarded = &sdkFault{code: "AccessDeniedException", outcome: OutcomeForwarded,
		message: "Forwarded: the request came through a proxy or from a browser, or by a host name that endpoint.allowed_hosts does not have."}
	// SDKs back off and try again after this one.
	sdkLimited  = &sdkFault{code: "ThrottlingException", message: "Connection limit exceeded", outcome: OutcomeLimited}
	sdkTooLarge = &sdkFault{code: "RequestEntityTooLargeException", status: http.StatusRequestEntityTooLarge, outcome: OutcomeBadRequest,
		message: "The request is larger than 64 KiB."}
	sdkUnreadable  = badInput("SerializationException", "The request could not be read.")
	sdkNoOperation = badInput("UnknownOperationException", "X-Amz-Target must name one operation.")
	sdkMediaType   = &sdkFault{code: "UnknownOperationException", status: http.StatusNotFound, outcome: OutcomeBadRequest,
		message: "The Content-Type must be " + sdkContentType + "."}
)

// badInput is a request that is wrong in itself.
func badInput(code, message string) error {
	return &sdkFault{code: code, message: message, outcome: OutcomeBadRequest}
}

// refusedOperation is the answer to all that the agent does not do. Of all codes
// this one is shown by every SDK with its message, and retried by none.
func refusedOperation(op string) error {
	return &sdkFault{code: "AccessDeniedException", outcome: OutcomeDenied,
		message: "secretsd refuses " + op + ": the agent only reads, by GetSecretValue, BatchGetSecretValue and DescribeSecret."}
}

const internalServiceError = "InternalServiceError"

// sdkError returns the answer for an error: the service's own, or an internal
// error, which SDKs try again after, for what failed between it and the agent.
func sdkError(err error) response {
	code, message, status, outcome := sdkFailure(err)
	key := `,"message":`
	if capitalMessage[code] {
		key = `,"Message":`
	}
	b := appendString([]byte(`{"__type":`), code)
	b = appendString(append(b, key...), message)
	return response{status: status, body: append(b, '}'), json: true, as: outcome}
}

func sdkFailure(err error) (code, message string, status int, outcome Outcome) {
	if own, ok := errors.AsType[*sdkFault](err); ok {
		status = own.status
		if status == 0 {
			status = http.StatusBadRequest
		}
		return own.code, own.message, status, own.outcome
	}
	e, found := errors.AsType[*secret.Error](err)
	internal := func(message string) (string, string, int, Outcome) {
		return internalServiceError, message, http.StatusInternalServerError, ""
	}
	switch {
	case found && forCredentials(e.Op), found && aboutCaller[strings.TrimSuffix(e.Code, "Exception")]:
		// Passed on it would say that the caller's key is wrong.
		return internal("The agent's own AWS credentials do not work.")
	case found && e.Code != "" && e.Code != internalFailure && e.Message != "":
		return e.Code, e.Message, clientStatus(e.Status), ""
	case isTimeout(err):
		return internal("The agent got no answer from Secrets Manager in time.")
	default:
		return internal("The agent could not read the secret from Secrets Manager.")
	}
}

// capitalMessage are the codes whose text the service writes as "Message": those
// of its API model and two that its protocol layer makes.
var capitalMessage = map[string]bool{
	"AccessDeniedException":     true,
	"DecryptionFailure":         true,
	internalServiceError:        true,
	"InvalidNextTokenException": true,
	"InvalidParameterException": true,
	"InvalidRequestException":   true,
	"ResourceNotFoundException": true,
	"SerializationException":    true,
}

// aboutCaller are the codes, without the Exception at their end, that speak of
// whoever signed a request.
var aboutCaller = map[string]bool{
	"ExpiredToken": true, "IncompleteSignature": true, "InvalidClientTokenId": true, "InvalidSignature": true,
	"MissingAuthenticationToken": true, "NotAuthorized": true, "OptInRequired": true, "RequestExpired": true,
	"SignatureDoesNotMatch": true, "UnrecognizedClient": true,
}
