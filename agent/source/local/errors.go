package local

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// apiError is an answer of the service that refuses a request. It never holds
// a secret value.
type apiError struct {
	code    string
	message string
	status  int // 0 means the code's own status
}

// Error returns "CODE: MESSAGE".
func (e *apiError) Error() string { return e.code + ": " + e.message }

func (e *apiError) httpStatus() int {
	switch {
	case e.status != 0:
		return e.status
	case e.code == "InternalServiceError":
		return http.StatusInternalServerError
	default:
		return http.StatusBadRequest
	}
}

// capitalMessage are the codes whose text the real service writes as
// "Message", as recorded; the errors of its protocol layer write "message".
var capitalMessage = map[string]bool{
	"AccessDeniedException":            true,
	"DecryptionFailure":                true,
	"EncryptionFailure":                true,
	"InternalServiceError":             true,
	"InvalidNextTokenException":        true,
	"InvalidParameterException":        true,
	"InvalidRequestException":          true,
	"LimitExceededException":           true,
	"MalformedPolicyDocumentException": true,
	"PreconditionNotMetException":      true,
	"ResourceExistsException":          true,
	"ResourceNotFoundException":        true,
	"SerializationException":           true,
}

func (e *apiError) body() []byte {
	member := "message"
	if capitalMessage[e.code] {
		member = "Message"
	}
	b, _ := json.Marshal(map[string]string{"__type": e.code, member: e.message})
	return b
}

func invalidParameter(format string, a ...any) *apiError {
	return &apiError{code: "InvalidParameterException", message: fmt.Sprintf(format, a...)}
}

func invalidRequest(message string) *apiError {
	return &apiError{code: "InvalidRequestException", message: message}
}

func resourceExists(format string, a ...any) *apiError {
	return &apiError{code: "ResourceExistsException", message: fmt.Sprintf(format, a...)}
}

func notFound(format string, a ...any) *apiError {
	return &apiError{code: "ResourceNotFoundException", message: fmt.Sprintf(format, a...)}
}

func serialization(text string) *apiError {
	return &apiError{code: "SerializationException", message: text}
}

func unknownOperation(status int, text string) *apiError {
	return &apiError{code: "UnknownOperationException", message: text, status: status}
}

// The texts below are the recorded ones.

func errNoSecret() *apiError {
	return notFound("Secrets Manager can't find the specified secret.")
}

func errDeleted() *apiError {
	return invalidRequest("You can't perform this operation on the secret because it was marked for deletion.")
}

func errNoToken() *apiError {
	return invalidRequest("You must provide a ClientRequestToken value. We recommend a UUID-type value.")
}

func errTokenTaken(token, arn string) *apiError {
	return resourceExists("You can't use ClientRequestToken %s because that value is already in use for a version of secret %s.", token, arn)
}

func errBothValues() *apiError {
	return invalidParameter("You can't specify both a binary secret value and a string secret value in the same secret.")
}

func errNextToken() *apiError {
	return &apiError{code: "InvalidNextTokenException", message: "The NextToken value is invalid."}
}
