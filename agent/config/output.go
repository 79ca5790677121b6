package config

// File is one rendered output.
type File struct {
	// Path is the absolute path of the file.
	Path string `yaml:"path"`
	TemplateSource
	// Mode is the file's mode, in quoted octal. Default: "0400".
	Mode Mode `yaml:"mode"`
	// Owner is the user, by name or number, that owns the file. Default: the
	// agent's own.
	Owner string `yaml:"owner"`
	// Group is the group, by name or number. Default: the agent's own.
	Group string `yaml:"group"`
	// CreateDirs makes missing directories above the file, with mode 0700.
	CreateDirs bool `yaml:"create_dirs"`
	// AllowDisk permits a directory that is not tmpfs or ramfs. The secret is
	// then on a disk.
	AllowDisk bool `yaml:"allow_disk"`
	// Method is rename, or inplace for a file that cannot be renamed because it
	// is a mount point of its own. It is then written to where it stands: a
	// reader can see it half written, and so can everybody after a crash.
	// Default: rename.
	Method string `yaml:"method"`
	// Backup keeps the content before the last one beside the file, as
	// NAME.bak, with the same mode. Default: false.
	Backup bool `yaml:"backup"`
	// Check is run on new content before it is published. Default: nothing is.
	Check *Check `yaml:"check"`
	// Notify names the targets told when the file has changed.
	Notify []string `yaml:"notify"`
}

// Check is a command that decides whether new content may be published. Exit
// code 0 means yes; with anything else it is held, and what was published
// before stays, until a secret's version or the template changes.
type Check struct {
	// Command is a program and its arguments, run without a shell. An argument
	// {} stands for the path of the new file, or of the new directory of a
	// bundle.
	Command []string `yaml:"command"`
	// Timeout ends a command that runs longer, which counts as no. Default: 10s.
	Timeout Duration `yaml:"timeout"`
	// User runs the command as another user, by name or number. Default: the
	// agent's own.
	User string `yaml:"user"`
	// Output is discard, or log, which has the end of what the command prints in the
	// log if it says no, without the words in which there is anything of a secret.
	// Default: discard.
	Output string `yaml:"output"`
}

// LogsOutput reports whether the end of what the command prints is to be logged.
func (c *Check) LogsOutput() bool { return c.Output == outputLog }

// Bundle is a directory of files that change together. A reader that opens
// ..data in it once, and reads below that, sees one generation of them.
type Bundle struct {
	// Dir is the absolute path of the directory, which may be a mount point.
	Dir string `yaml:"dir"`
	// Mode is that of the files, in quoted octal, where they give none. Those who
	// may read the files may enter the directory. Default: "0400".
	Mode Mode `yaml:"mode"`
	// Owner and Group own the files and the generations, by name or number.
	// Default: the agent's own.
	Owner string `yaml:"owner"`
	Group string `yaml:"group"`
	// CreateDirs makes missing directories, Dir among them, with mode 0700.
	CreateDirs bool `yaml:"create_dirs"`
	// AllowDisk permits a directory that is not tmpfs or ramfs. The secret is
	// then on a disk.
	AllowDisk bool `yaml:"allow_disk"`
	// Grace is how long the generation before stays, for those who are still
	// reading it. Default: 10s.
	Grace *Duration `yaml:"grace"`
	// Explode makes one file of each key of a JSON secret. New keys appear, and
	// those that vanish go; a version without any is held. Either this or files, or
	// both.
	Explode *Explode `yaml:"explode"`
	// Files are the files.
	Files []BundleFile `yaml:"files"`
	// Backup keeps the generation before as ..backup. Default: false.
	Backup bool `yaml:"backup"`
	// Check is run on a new generation before it is published.
	Check *Check `yaml:"check"`
	// Notify names the targets told when the bundle has changed.
	Notify []string `yaml:"notify"`
}

// Explode is a secret's configured name, or a mapping with these keys.
type Explode struct {
	// Secret is the configured name of a JSON secret.
	Secret string `yaml:"secret"`
	// Name is what the files are called, in which {} stands for the key.
	// Default: {}.
	Name string `yaml:"name"`
}

// BundleFile is one file of a bundle.
type BundleFile struct {
	// Path is the path below the bundle's directory.
	Path string `yaml:"path"`
	TemplateSource
	// Mode is the file's mode. Default: that of the bundle.
	Mode Mode `yaml:"mode"`
}

// TemplateSource is a template and how it is read.
type TemplateSource struct {
	// Template is the path of a text/template file. Either this or contents.
	Template string `yaml:"template"`
	// Contents is the template itself. Either this or template.
	Contents string `yaml:"contents"`
	// Delims are the template's delimiters. Default: ["{{", "}}"].
	Delims []string `yaml:"delims"`
	// MissingKey is what a template does with a key its secret lacks: error, or
	// zero, which prints nothing. Default: error.
	MissingKey string `yaml:"missing_key"`
	// AllowEnv names the environment variables that the template may read with
	// env. Default: none.
	AllowEnv []string `yaml:"allow_env"`
}

// Var is a value for templates: text, or a mapping with this key.
type Var struct {
	// Text is the value itself.
	Text string `yaml:"-"`
	// Env names the environment variable that holds it, which has to be set.
	Env string `yaml:"env"`
}
