package e2e

import (
	"bytes"
	"errors"
	"io"
	"path"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"secretsd/agent/config"
)

// The parts of the Kubernetes API (core/v1, apps/v1) that sidecar.yaml uses, by
// the API's names. A field that does not stand here is refused, so a misspelt
// one is noticed; before adding one, look it up in the API reference.
type (
	metadata struct {
		Name   string            `yaml:"name"`
		Labels map[string]string `yaml:"labels"`
	}
	typeMeta struct {
		APIVersion string   `yaml:"apiVersion"`
		Kind       string   `yaml:"kind"`
		Metadata   metadata `yaml:"metadata"`
	}
	serviceAccount struct {
		typeMeta `yaml:",inline"`
	}
	configMap struct {
		typeMeta `yaml:",inline"`
		Data     map[string]string `yaml:"data"`
	}
	deployment struct {
		typeMeta `yaml:",inline"`
		Spec     struct {
			Selector struct {
				MatchLabels map[string]string `yaml:"matchLabels"`
			} `yaml:"selector"`
			Template struct {
				Metadata metadata `yaml:"metadata"`
				Spec     podSpec  `yaml:"spec"`
			} `yaml:"template"`
		} `yaml:"spec"`
	}
	podSpec struct {
		ServiceAccountName           string `yaml:"serviceAccountName"`
		AutomountServiceAccountToken *bool  `yaml:"automountServiceAccountToken"`
		SecurityContext              struct {
			RunAsNonRoot   bool `yaml:"runAsNonRoot"`
			RunAsUser      int  `yaml:"runAsUser"`
			RunAsGroup     int  `yaml:"runAsGroup"`
			SeccompProfile struct {
				Type string `yaml:"type"`
			} `yaml:"seccompProfile"`
		} `yaml:"securityContext"`
		InitContainers []container `yaml:"initContainers"`
		Containers     []container `yaml:"containers"`
		Volumes        []volume    `yaml:"volumes"`
	}
	container struct {
		Name          string   `yaml:"name"`
		Image         string   `yaml:"image"`
		RestartPolicy string   `yaml:"restartPolicy"`
		Args          []string `yaml:"args"`
		Env           []struct {
			Name  string `yaml:"name"`
			Value string `yaml:"value"`
		} `yaml:"env"`
		Ports []struct {
			Name          string `yaml:"name"`
			ContainerPort int    `yaml:"containerPort"`
		} `yaml:"ports"`
		StartupProbe  probe `yaml:"startupProbe"`
		LivenessProbe probe `yaml:"livenessProbe"`
		Resources     struct {
			Requests map[string]string `yaml:"requests"`
			Limits   map[string]string `yaml:"limits"`
		} `yaml:"resources"`
		SecurityContext struct {
			AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
			ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
			Capabilities             struct {
				Drop []string `yaml:"drop"`
			} `yaml:"capabilities"`
		} `yaml:"securityContext"`
		VolumeMounts []volumeMount `yaml:"volumeMounts"`
	}
	probe struct {
		HTTPGet struct {
			Path string `yaml:"path"`
			Port string `yaml:"port"`
		} `yaml:"httpGet"`
		PeriodSeconds    int `yaml:"periodSeconds"`
		FailureThreshold int `yaml:"failureThreshold"`
	}
	volumeMount struct {
		Name      string `yaml:"name"`
		MountPath string `yaml:"mountPath"`
		ReadOnly  bool   `yaml:"readOnly"`
	}
	volume struct {
		Name      string `yaml:"name"`
		ConfigMap *struct {
			Name string `yaml:"name"`
		} `yaml:"configMap"`
		EmptyDir *struct {
			Medium    string `yaml:"medium"`
			SizeLimit string `yaml:"sizeLimit"`
		} `yaml:"emptyDir"`
		Projected *struct {
			Sources []struct {
				ServiceAccountToken struct {
					Audience          string `yaml:"audience"`
					Path              string `yaml:"path"`
					ExpirationSeconds int    `yaml:"expirationSeconds"`
				} `yaml:"serviceAccountToken"`
			} `yaml:"sources"`
		} `yaml:"projected"`
	}
)

// sidecar is packaging/kubernetes/sidecar.yaml.
type sidecar struct {
	account    serviceAccount
	config     configMap
	deployment deployment
}

func readSidecar(t *testing.T) sidecar {
	t.Helper()
	var s sidecar
	decoder := yaml.NewDecoder(strings.NewReader(textOf(t, "../packaging/kubernetes/sidecar.yaml")))
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return s
		}
		if err != nil {
			t.Fatal(err)
		}
		s.add(t, &document)
	}
}

// add decodes a document as what its kind says, and refuses unknown fields,
// which yaml.v3 does for text only.
func (s *sidecar) add(t *testing.T, document *yaml.Node) {
	t.Helper()
	var meta typeMeta
	if err := document.Decode(&meta); err != nil {
		t.Fatal(err)
	}
	known := map[string]any{"v1/ServiceAccount": &s.account, "v1/ConfigMap": &s.config, "apps/v1/Deployment": &s.deployment}
	kind := meta.APIVersion + "/" + meta.Kind
	into, ok := known[kind]
	if !ok {
		t.Fatalf("line %d: unexpected %s", document.Line, kind)
	}
	text, err := yaml.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	strict := yaml.NewDecoder(bytes.NewReader(text))
	strict.KnownFields(true)
	if err := strict.Decode(into); err != nil {
		t.Fatalf("%s %s: %v", kind, meta.Metadata.Name, err)
	}
}

func (s sidecar) agentYAML(t *testing.T) string {
	t.Helper()
	text := s.config.Data["agent.yaml"]
	if text == "" {
		t.Fatal("the ConfigMap has no agent.yaml")
	}
	return text
}

func (s sidecar) pod() podSpec { return s.deployment.Spec.Template.Spec }

// agent returns the container of the agent.
func (s sidecar) agent(t *testing.T) container {
	t.Helper()
	for _, c := range s.pod().InitContainers {
		if c.Name == "secretsd" {
			return c
		}
	}
	t.Fatal("no init container is called secretsd")
	return container{}
}

func (s sidecar) volume(t *testing.T, name string) volume {
	t.Helper()
	for _, v := range s.pod().Volumes {
		if v.Name == name {
			return v
		}
	}
	t.Fatalf("there is no volume %q", name)
	return volume{}
}

// mountOf returns the mount of c that holds file.
func mountOf(t *testing.T, c container, file string) volumeMount {
	t.Helper()
	var found volumeMount
	for _, m := range c.VolumeMounts {
		if (file == m.MountPath || strings.HasPrefix(file, m.MountPath+"/")) && len(m.MountPath) > len(found.MountPath) {
			found = m
		}
	}
	if found.Name == "" {
		t.Fatalf("nothing of container %s is mounted for %s", c.Name, file)
	}
	return found
}

// A sidecar that holds its application back until the secrets are there.
func TestSidecarStartsFirst(t *testing.T) {
	s := readSidecar(t)
	agent := s.agent(t)
	if agent.RestartPolicy != "Always" {
		t.Errorf("restartPolicy %q makes an init container that the pod waits for to end", agent.RestartPolicy)
	}
	if diff := cmp.Diff([]string{"/readyz", "/healthz"}, []string{agent.StartupProbe.HTTPGet.Path, agent.LivenessProbe.HTTPGet.Path}); diff != "" {
		t.Errorf("startup and liveness probe (-want +got):\n%s", diff)
	}
	c := loadAgentYAML(t, s)
	if c.Telemetry == nil {
		t.Fatal("agent.yaml has no telemetry to answer the probes")
	}
	for _, p := range []probe{agent.StartupProbe, agent.LivenessProbe} {
		port := 0
		for _, named := range agent.Ports {
			if named.Name == p.HTTPGet.Port {
				port = named.ContainerPort
			}
		}
		// The kubelet asks from outside the pod's loopback.
		if want := ":" + strconv.Itoa(port); c.Telemetry.Listen != want {
			t.Errorf("the probe of %s asks %s, telemetry listens on %s", p.HTTPGet.Path, want, c.Telemetry.Listen)
		}
	}
}

func loadAgentYAML(t *testing.T, s sidecar) *config.Config {
	t.Helper()
	c, err := config.Parse("agent.yaml", []byte(s.agentYAML(t)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSidecarKeepsSecretsInMemory(t *testing.T) {
	s := readSidecar(t)
	c := loadAgentYAML(t, s)
	paths := []string{c.StateDir}
	for _, f := range c.Files {
		paths = append(paths, f.Path)
	}
	if len(paths) == 1 {
		t.Fatal("agent.yaml writes no file")
	}
	for _, file := range paths {
		mount := mountOf(t, s.agent(t), file)
		v := s.volume(t, mount.Name)
		if mount.ReadOnly || v.EmptyDir == nil || v.EmptyDir.Medium != "Memory" || v.EmptyDir.SizeLimit == "" {
			t.Errorf("%s is not in a volume in memory of limited size that the agent may write to: %+v", file, v)
		}
	}
	for _, app := range s.pod().Containers {
		for _, f := range c.Files {
			if got, want := mountOf(t, app, f.Path), mountOf(t, s.agent(t), f.Path); got.Name != want.Name || !got.ReadOnly {
				t.Errorf("container %s: want volume %s read-only at %s, got %+v", app.Name, want.Name, path.Dir(f.Path), got)
			}
		}
		for _, m := range app.VolumeMounts {
			if m.MountPath == c.StateDir {
				t.Errorf("container %s sees the agent's state", app.Name)
			}
		}
	}
}

// The application has the pod's service account, but not the token that makes
// AWS rights of it.
func TestSidecarAloneHasTheRole(t *testing.T) {
	s := readSidecar(t)
	if auto := s.pod().AutomountServiceAccountToken; auto == nil || *auto {
		t.Error("every container gets a token for the Kubernetes API")
	}
	if got := s.pod().ServiceAccountName; got != s.account.Metadata.Name {
		t.Errorf("the pod's service account is %q, the manifest makes %q", got, s.account.Metadata.Name)
	}
	env := map[string]string{}
	for _, e := range s.agent(t).Env {
		env[e.Name] = e.Value
	}
	if env["AWS_ROLE_ARN"] == "" {
		t.Error("the agent is given no AWS_ROLE_ARN")
	}
	file := env["AWS_WEB_IDENTITY_TOKEN_FILE"]
	mount := mountOf(t, s.agent(t), file)
	v := s.volume(t, mount.Name)
	if v.Projected == nil || len(v.Projected.Sources) != 1 {
		t.Fatalf("%s is not in a projected volume: %+v", file, v)
	}
	token := v.Projected.Sources[0].ServiceAccountToken
	if token.Audience != "sts.amazonaws.com" || mount.MountPath+"/"+token.Path != file {
		t.Errorf("AWS_WEB_IDENTITY_TOKEN_FILE is %s, the token for %s is at %s/%s", file, token.Audience, mount.MountPath, token.Path)
	}
	for _, app := range s.pod().Containers {
		for _, m := range app.VolumeMounts {
			if m.Name == mount.Name {
				t.Errorf("container %s sees the token for AWS", app.Name)
			}
		}
	}
}

// What the Pod Security Standard "restricted" asks for, and a read-only root.
func TestSidecarIsRestricted(t *testing.T) {
	s := readSidecar(t)
	pod := s.pod().SecurityContext
	if !pod.RunAsNonRoot || pod.RunAsUser != 65532 || pod.SeccompProfile.Type != "RuntimeDefault" {
		t.Errorf("the pod is not restricted: %+v", pod)
	}
	for _, c := range append(s.pod().InitContainers, s.pod().Containers...) {
		sc := c.SecurityContext
		if sc.AllowPrivilegeEscalation == nil || *sc.AllowPrivilegeEscalation || !sc.ReadOnlyRootFilesystem ||
			!cmp.Equal(sc.Capabilities.Drop, []string{"ALL"}) {
			t.Errorf("container %s is not restricted: %+v", c.Name, sc)
		}
	}
	if got, want := s.deployment.Spec.Template.Metadata.Labels, s.deployment.Spec.Selector.MatchLabels; !cmp.Equal(got, want) {
		t.Errorf("the selector %v does not match the pod's labels %v", want, got)
	}
	mount := mountOf(t, s.agent(t), "/etc/secretsd/agent.yaml")
	if v := s.volume(t, mount.Name); !mount.ReadOnly || v.ConfigMap == nil || v.ConfigMap.Name != s.config.Metadata.Name {
		t.Errorf("agent.yaml does not come from the ConfigMap %s: %+v", s.config.Metadata.Name, v)
	}
	if diff := cmp.Diff([]string{"run", "--config", "/etc/secretsd/agent.yaml"}, s.agent(t).Args); diff != "" {
		t.Errorf("the agent's arguments (-want +got):\n%s", diff)
	}
}
