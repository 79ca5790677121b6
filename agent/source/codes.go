package source

import (
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/retry"

	"secretsd/agent/secret"
)

// kinds are the codes of Secrets Manager, of STS and of the front that all AWS
// services share ("Common errors", API references), as far as the status alone
// does not tell. Most of them are not in the SDK's model.
var kinds = map[string]secret.Kind{
	"ResourceNotFoundException": secret.NotFound,

	"DecryptionFailure":                   secret.Denied,
	"DecryptionFailureException":          secret.Denied,
	"ExpiredToken":                        secret.Denied,
	"ExpiredTokenException":               secret.Denied,
	"IncompleteSignature":                 secret.Denied,
	"IncompleteSignatureException":        secret.Denied,
	"InvalidClientTokenId":                secret.Denied,
	"InvalidIdentityToken":                secret.Denied,
	"InvalidIdentityTokenException":       secret.Denied,
	"IDPRejectedClaim":                    secret.Denied,
	"IDPRejectedClaimException":           secret.Denied,
	"InvalidSignatureException":           secret.Denied,
	"MissingAuthenticationToken":          secret.Denied,
	"MissingAuthenticationTokenException": secret.Denied,
	"NotAuthorized":                       secret.Denied,
	"OptInRequired":                       secret.Denied,
	"RegionDisabledException":             secret.Denied,
	"RequestExpired":                      secret.Denied,
	"SignatureDoesNotMatch":               secret.Denied,
	"UnauthorizedOperation":               secret.Denied,
	"UnrecognizedClientException":         secret.Denied,
	"InternalFailure":                     secret.Transient,
	"InternalServiceError":                secret.Transient,
	"InternalServiceErrorException":       secret.Transient,
	"InternalServerError":                 secret.Transient,
	"InternalServerException":             secret.Transient,
	"ServiceUnavailable":                  secret.Transient,
	"ServiceUnavailableException":         secret.Transient,
	"RequestTimeout":                      secret.Transient,
	"RequestTimeoutException":             secret.Transient,
	"RequestTimeTooSkewed":                secret.Transient,
	"IDPCommunicationError":               secret.Transient,
	"IDPCommunicationErrorException":      secret.Transient,
	"ThrottlingException":                 secret.Throttled,
	"Throttling":                          secret.Throttled,
	"TooManyRequests":                     secret.Throttled,
}

// unknownOperations are what a backend answers that does not know a call.
var unknownOperations = map[string]bool{
	"UnknownOperation": true, "UnknownOperationException": true,
	"InvalidAction": true, "InvalidActionException": true,
	"UnsupportedOperation": true, "UnsupportedOperationException": true,
	"NotImplemented": true, "NotImplementedException": true,
}

// serviceError is the error of an answer that names an error code. A status of
// 0 stands for an entry of a batch, and becomes what GetSecretValue would have
// answered with.
func serviceError(op, code, message string, status int) *secret.Error {
	e := &secret.Error{Kind: kindOf(code, status), Op: op, Code: code, Message: message, Status: status}
	if status == 0 {
		e.Status = http.StatusBadRequest
		if e.Kind == secret.Transient {
			e.Status = http.StatusInternalServerError
		}
	}
	e.Remedy = hintFor(e)
	return e
}

func kindOf(code string, status int) secret.Kind {
	if _, ok := retry.DefaultThrottleErrorCodes[code]; ok {
		return secret.Throttled
	}
	if k, ok := kinds[code]; ok {
		return k
	}
	if strings.HasPrefix(code, "AccessDenied") {
		return secret.Denied
	}
	if status == 0 {
		// An entry of a batch: what AWS lists there and is not above is about
		// the request.
		return secret.Invalid
	}
	return kindOfStatus(status)
}

// kindOfStatus is the kind of an answer whose code says nothing.
func kindOfStatus(status int) secret.Kind {
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusProxyAuthRequired:
		return secret.Denied
	case status == http.StatusTooManyRequests:
		return secret.Throttled
	case status == http.StatusRequestTimeout:
		return secret.Transient
	case status >= 400 && status < 500:
		return secret.Invalid
	}
	return secret.Transient
}

// hintFor says how to mend what the service has refused.
func hintFor(e *secret.Error) string {
	switch {
	case isDecryptionFailure(e.Code):
		return "the secret's KMS key is disabled, scheduled for deletion or out of reach: see the key's state, and allow kms:Decrypt on it"
	case e.Kind == secret.Denied && strings.Contains(e.Message, "KMS"):
		return "allow kms:Decrypt on the secret's KMS key, in the agent's policy and in the key's own"
	case e.Code == "SignatureDoesNotMatch" || e.Code == "InvalidSignatureException":
		return "check the secret access key, and the machine's clock"
	case endsCredentials(e.Code), e.Code == "RequestExpired":
		return "renew the agent's AWS credentials, and check the machine's clock"
	case e.Kind == secret.Denied:
		return "allow secretsmanager:GetSecretValue on the secret's ARN (NAME-?????? covers its random suffix); another account's secret also needs its resource policy and its KMS key's policy"
	case e.Kind == secret.NotFound:
		return "check the name or ARN, the Region and the account; a secret without a version of that label or id answers the same"
	case e.Kind == secret.Throttled:
		return "the account's rate in this Region is used up: lengthen refresh.interval"
	case e.Kind == secret.Invalid && strings.Contains(e.Message, "deletion"), e.Kind == secret.Invalid && strings.Contains(e.Message, "deleted"):
		return "the secret is scheduled for deletion: aws secretsmanager restore-secret brings it back"
	}
	return ""
}

// endsCredentials reports whether code says that the credentials themselves,
// and not what they may do, are refused.
func endsCredentials(code string) bool {
	switch code {
	case "ExpiredToken", "ExpiredTokenException", "UnrecognizedClientException", "InvalidClientTokenId":
		return true
	}
	return false
}

func isDecryptionFailure(code string) bool { return strings.HasPrefix(code, "DecryptionFailure") }

// isPolicyDenial reports whether a policy, and not the credentials, is why a
// call was denied. A refusal without a code is moto's, in XML.
func isPolicyDenial(e *secret.Error) bool {
	return strings.HasPrefix(e.Code, "AccessDenied") || e.Code == "UnauthorizedOperation" || e.Code == "NotAuthorized" ||
		e.Code == "" && e.Status == http.StatusForbidden
}

func isUnknownOperation(e *secret.Error) bool {
	return unknownOperations[e.Code] || e.Status == http.StatusNotImplemented
}
