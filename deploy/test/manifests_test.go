package deploy

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"go.yaml.in/yaml/v3"
)

const deploy = "../../deploy"

// object is what the tests read of a Kubernetes object; the cluster's own
// strict validation reads the rest (deploy/test/kube.sh).
type object struct {
	File       string `yaml:"-"`
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct {
		Name, Namespace string
		Labels          map[string]string
	}
	Automount *bool `yaml:"automountServiceAccountToken"`
	Data      map[string]string
	Spec      struct {
		Replicas    int
		ServiceName string `yaml:"serviceName"`
		Selector    any
		Ports       []struct {
			Name       string
			TargetPort string `yaml:"targetPort"`
		}
		ScaleTargetRef struct{ Kind, Name string } `yaml:"scaleTargetRef"`
		Strategy       struct {
			RollingUpdate struct {
				MaxUnavailable int `yaml:"maxUnavailable"`
				MaxSurge       int `yaml:"maxSurge"`
			} `yaml:"rollingUpdate"`
		}
		Rules []struct {
			HTTP struct {
				Paths []struct {
					Path     string
					PathType string `yaml:"pathType"`
					Backend  struct {
						Service struct {
							Name string
							Port struct{ Name string }
						}
					}
				}
			}
		}
		Template *struct {
			Metadata struct{ Labels, Annotations map[string]string }
			Spec     podSpec
		}
		VolumeClaimTemplates []struct {
			Spec struct {
				Resources struct{ Requests map[string]string }
			}
		} `yaml:"volumeClaimTemplates"`
	}
}

type podSpec struct {
	ServiceAccountName string `yaml:"serviceAccountName"`
	Automount          *bool  `yaml:"automountServiceAccountToken"`
	ServiceLinks       *bool  `yaml:"enableServiceLinks"`
	Grace              int    `yaml:"terminationGracePeriodSeconds"`
	SecurityContext    struct {
		RunAsNonRoot   bool                  `yaml:"runAsNonRoot"`
		RunAsUser      int                   `yaml:"runAsUser"`
		SeccompProfile struct{ Type string } `yaml:"seccompProfile"`
	} `yaml:"securityContext"`
	InitContainers []container `yaml:"initContainers"`
	Containers     []container
	Volumes        []struct {
		Name   string
		Secret *struct {
			SecretName string `yaml:"secretName"`
			Optional   bool
		}
	}
}

type container struct {
	Name, Image string
	Ports       []struct{ Name string }
	Env         []struct {
		Name, Value string
		ValueFrom   struct {
			SecretKeyRef *struct {
				Name, Key string
				Optional  bool
			} `yaml:"secretKeyRef"`
		} `yaml:"valueFrom"`
	}
	Startup   *probe `yaml:"startupProbe"`
	Readiness *probe `yaml:"readinessProbe"`
	Liveness  *probe `yaml:"livenessProbe"`
	Lifecycle struct {
		PreStop struct{ Sleep struct{ Seconds int } } `yaml:"preStop"`
	}
	Resources       struct{ Requests, Limits map[string]string }
	SecurityContext struct {
		Escalation   *bool `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRoot bool  `yaml:"readOnlyRootFilesystem"`
		Capabilities struct{ Add, Drop []string }
	} `yaml:"securityContext"`
}

type probe struct {
	HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
	Exec    struct{ Command []string }
	Period  int `yaml:"periodSeconds"`
	Timeout int `yaml:"timeoutSeconds"`
	Failure int `yaml:"failureThreshold"`
}

// applied are the files that `kubectl apply -f deploy/` reads, in its order.
func applied(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(deploy)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) {
			names = append(names, e.Name())
		}
	}
	return names
}

// manifests reads every document of them.
func manifests(t *testing.T) []object {
	t.Helper()
	var objects []object
	for _, name := range applied(t) {
		b, err := os.ReadFile(filepath.Join(deploy, name))
		if err != nil {
			t.Fatal(err)
		}
		for d := yaml.NewDecoder(bytes.NewReader(b)); ; {
			o := object{File: name}
			err := d.Decode(&o)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			objects = append(objects, o)
		}
	}
	if len(objects) == 0 {
		t.Fatal("deploy/ has no manifests")
	}
	return objects
}

// decode reads the first document of a file.
func decode(t *testing.T, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func (o object) id() string { return o.Kind + "/" + o.Metadata.Name }

// find returns one object; kind and name must be there once.
func find(t *testing.T, objects []object, id string) object {
	t.Helper()
	for _, o := range objects {
		if o.id() == id {
			return o
		}
	}
	t.Fatalf("deploy/ has no %s", id)
	return object{}
}

// natsOptions is nats.conf as nats-server itself reads it.
func natsOptions(t *testing.T, objects []object) *server.Options {
	t.Helper()
	dir := t.TempDir()
	for name, content := range find(t, objects, "ConfigMap/nats").Data {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("POD_NAME", "nats-0")
	opts, err := server.ProcessConfigFile(filepath.Join(dir, "nats.conf"))
	if err != nil {
		t.Fatal(err)
	}
	return opts
}
