package source

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"
	"syscall"

	"secretsd/agent/secret"
)

// OptionError says what is wrong with the options, the environment or the
// shared configuration, whatever AWS would answer.
type OptionError struct {
	text string
	hint string
	err  error
}

// Error returns the fault in one line, without the hint.
func (e *OptionError) Error() string { return e.text }

// Hint says how to mend it; empty if there is nothing to add.
func (e *OptionError) Hint() string { return e.hint }

// Unwrap returns the cause, or nil.
func (e *OptionError) Unwrap() error { return e.err }

// check reports what is wrong in the options alone.
func (o *Options) check() error {
	var errs []error
	if o.Region != "" && !validRegion(o.Region) {
		errs = append(errs, &OptionError{text: "region " + quote(o.Region) + " is not a Region's name", hint: "write it as in eu-west-1"})
	}
	if o.Endpoint != "" {
		errs = append(errs, checkEndpoint(o.Endpoint))
	}
	if o.RoleARN != "" && !secret.IsRole(o.RoleARN) {
		errs = append(errs, &OptionError{text: quote(o.RoleARN) + " is not the ARN of a role", hint: "write arn:aws:iam::ACCOUNT:role/NAME"})
	}
	if o.CredentialsFile != "" && o.Transport == nil {
		// The program that writes it may come later, so that it is missing is
		// no fault yet.
		if err := checkPrivate(o.CredentialsFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// checkEndpoint refuses a URL that would carry secrets in the clear, or that
// is none.
func checkEndpoint(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		// The parse error is left out: it quotes a password in the URL.
		return &OptionError{text: "endpoint is not an http or https URL", hint: "write it as in https://host:port"}
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return &OptionError{text: "endpoint " + quote(u.Scheme+"://"+u.Host) + " has a user, a query or a fragment", hint: "write only scheme, host, port and path"}
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) {
		return &OptionError{
			text: "endpoint " + quote(u.Scheme+"://"+u.Host) + " is plain http outside loopback: secrets would cross the network in the clear",
			hint: "use https or a loopback address; the endpoint comes from source.aws.endpoint, AWS_ENDPOINT_URL_SECRETS_MANAGER, AWS_ENDPOINT_URL_STS, AWS_ENDPOINT_URL or the profile's endpoint_url",
		}
	}
	return nil
}

// isLoopback asks no resolver: a name that only resolves to loopback today is
// not one.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// checkPrivate refuses a credentials file that others can read or change.
func checkPrivate(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return &OptionError{text: "read credentials file: " + err.Error(), hint: "create the file, or remove source.aws.credentials_file", err: err}
	}
	fault := ""
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		fault = "is not a regular file"
	case mode.Perm()&0o004 != 0:
		fault = fmt.Sprintf("can be read by everyone (mode %04o)", mode.Perm())
	case mode.Perm()&0o022 != 0:
		fault = fmt.Sprintf("can be written by others (mode %04o)", mode.Perm())
	}
	if st, ok := info.Sys().(*syscall.Stat_t); fault == "" && ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		fault = fmt.Sprintf("belongs to neither root nor the agent (uid %d)", st.Uid)
	}
	if fault == "" {
		return nil
	}
	return &OptionError{text: "credentials file " + path + " " + fault, hint: "let root or the agent's user own it, with mode 0400 or 0440"}
}

// noRegion is the error of a ref for which no Region can be found.
func noRegion(id string, cause error) *secret.Error {
	e := invalidRef(id, "no Region is set", "set source.aws.region or AWS_REGION, or name the secret by its full ARN")
	if cause != nil {
		e.Message += " (" + cause.Error() + ")"
	}
	return e
}

// notInSessionName is what STS refuses in a RoleSessionName (AssumeRole, API
// reference).
var notInSessionName = regexp.MustCompile(`[^\w+=,.@-]+`)

// sessionName returns the session name for assumed roles, in the form STS
// accepts: 2 to 64 characters.
func (o *Options) sessionName() string {
	name := o.SessionName
	if name == "" {
		name = os.Getenv("AWS_ROLE_SESSION_NAME")
	}
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown-host"
		}
		name = "secretsd-" + host
	}
	name = notInSessionName.ReplaceAllString(name, "-")
	if len(name) > 64 {
		name = name[:64]
	}
	if len(name) < 2 {
		name = "secretsd-" + name
	}
	return name
}
