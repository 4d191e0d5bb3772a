package deployment

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"kijko/server/config"
	"kijko/server/openapi"
	worker "kijko/worker/config"
)

const manifests = "server/deploy/kubernetes"

// manifest is what these tests read of a resource; "go run ./tests/tools/suite -peers -only kubernetes" checks all of it.
type manifest struct {
	Kind     string
	Metadata struct{ Name string }
	Spec     struct {
		Replicas     int
		MinAvailable int `yaml:"minAvailable"`
		Selector     struct {
			MatchLabels map[string]string `yaml:"matchLabels"`
		}
		Template struct {
			Metadata struct{ Labels map[string]string }
			Spec     pod
		}
	}
}

type pod struct {
	AutomountToken  *bool `yaml:"automountServiceAccountToken"`
	Grace           int   `yaml:"terminationGracePeriodSeconds"`
	SecurityContext struct {
		RunAsNonRoot bool `yaml:"runAsNonRoot"`
	} `yaml:"securityContext"`
	Containers []container
}

type container struct {
	Name, Image string
	Args        []string
	Ports       []struct {
		Name          string
		ContainerPort int `yaml:"containerPort"`
	}
	Env []struct {
		Name      string
		ValueFrom struct {
			SecretKeyRef struct{ Name, Key string } `yaml:"secretKeyRef"`
		} `yaml:"valueFrom"`
	}
	EnvFrom         []map[string]any `yaml:"envFrom"`
	SecurityContext struct {
		AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
		Capabilities             struct{ Drop []string }
	} `yaml:"securityContext"`
	Resources struct{ Requests, Limits map[string]string }
	Startup   probe `yaml:"startupProbe"`
	Live      probe `yaml:"livenessProbe"`
	Ready     probe `yaml:"readinessProbe"`
}

type probe struct {
	HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
}

func loadManifests(t *testing.T) (all []manifest) {
	t.Helper()
	var k struct{ Resources []string }
	require.NoError(t, yaml.Unmarshal(read(t, manifests+"/kustomization.yaml"), &k))
	for _, file := range k.Resources {
		d := yaml.NewDecoder(bytes.NewReader(read(t, manifests+"/"+file)))
		for {
			var m manifest
			err := d.Decode(&m)
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, file)
			all = append(all, m)
		}
	}
	return all
}

// shipped are the settings of settings.env.
func shipped(t *testing.T) map[string]string {
	t.Helper()
	settings := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(string(read(t, manifests+"/settings.env"))), "\n") {
		name, value, ok := strings.Cut(line, "=")
		require.True(t, ok, line)
		settings[name] = value
	}
	return settings
}

// known are the settings of the programs, and whether each is secret.
func known() map[string]bool {
	names := map[string]bool{}
	var walk func(reflect.Type)
	walk = func(t reflect.Type) {
		for f := range t.Fields() {
			if name, _, _ := strings.Cut(f.Tag.Get("env"), ","); name != "" {
				names[name] = f.Tag.Get("secret") == "true"
			} else if f.Type.Kind() == reflect.Struct {
				walk(f.Type)
			}
		}
	}
	walk(reflect.TypeFor[config.Config]())
	return names
}

func TestKubernetes(t *testing.T) {
	names, settings, all := known(), shipped(t), loadManifests(t)
	pods := map[string]manifest{}
	for _, m := range all {
		if len(m.Spec.Template.Spec.Containers) == 1 {
			pods[m.Metadata.Name] = m
		}
	}
	require.Len(t, pods, 3)

	t.Run("EachSettingExistsAndNoSecretIsPlain", func(t *testing.T) {
		for name := range settings {
			secret, ok := names[name]
			require.True(t, ok, "%s is no setting", name)
			require.False(t, secret, "%s belongs into a Secret", name)
		}
		for _, m := range pods {
			for _, e := range m.Spec.Template.Spec.Containers[0].Env {
				require.True(t, names[e.Name], "%s of %s is no secret setting", e.Name, m.Metadata.Name)
				require.Equal(t, e.Name, e.ValueFrom.SecretKeyRef.Key)
			}
		}
	})
	t.Run("PodsAreHardenedAndBounded", func(t *testing.T) {
		for name, m := range pods {
			pod, c := m.Spec.Template.Spec, m.Spec.Template.Spec.Containers[0]
			require.True(t, pod.SecurityContext.RunAsNonRoot, name)
			require.NotNil(t, pod.AutomountToken, name)
			require.False(t, *pod.AutomountToken, name)
			require.True(t, c.SecurityContext.ReadOnlyRootFilesystem, name)
			require.False(t, *c.SecurityContext.AllowPrivilegeEscalation, name)
			require.Equal(t, []string{"ALL"}, c.SecurityContext.Capabilities.Drop, name)
			require.NotEmpty(t, c.Resources.Requests["cpu"], name)
			require.NotEmpty(t, c.Resources.Limits["memory"], name)
			require.NotContains(t, c.Image, "latest")
		}
	})
	t.Run("DisruptionsLeaveOneOfEach", func(t *testing.T) {
		budgets := 0
		for _, m := range all {
			if m.Kind == "PodDisruptionBudget" {
				budgets++
				require.Equal(t, pods[m.Metadata.Name].Spec.Template.Metadata.Labels, m.Spec.Selector.MatchLabels)
				require.GreaterOrEqual(t, pods[m.Metadata.Name].Spec.Replicas, 2)
			}
		}
		require.Equal(t, 2, budgets)
	})
	t.Run("ProbesAskForRoutesThatAreServed", func(t *testing.T) {
		document, err := openapi.Load()
		require.NoError(t, err)
		served := map[string]bool{}
		for _, op := range document.Operations {
			served[op.Path] = true
		}
		c := pods["kijko-server"].Spec.Template.Spec.Containers[0]
		for path, p := range map[string]probe{"/health/live": c.Live, "/health/ready": c.Ready} {
			require.Equal(t, path, p.HTTPGet.Path)
			require.True(t, served[path])
			require.Equal(t, "http", p.HTTPGet.Port)
		}
		require.Equal(t, c.Live.HTTPGet, c.Startup.HTTPGet)
		for i, setting := range []string{"KIJKO_ADDR", "KIJKO_METRICS_ADDR"} {
			require.True(t, strings.HasSuffix(settings[setting], []string{":8000", ":9100"}[i]))
			require.Equal(t, []int{8000, 9100}[i], c.Ports[i].ContainerPort)
		}
	})
	t.Run("AStopHasTimeForRunningRequests", func(t *testing.T) {
		grace, err := time.ParseDuration(settings["KIJKO_SHUTDOWN_GRACE"])
		require.NoError(t, err)
		for _, name := range []string{"kijko-server", "kijko-worker"} {
			require.Greater(t, time.Duration(pods[name].Spec.Template.Spec.Grace)*time.Second, grace+5*time.Second, name)
		}
	})
	t.Run("ProductionStartsWithTheseSettings", func(t *testing.T) {
		secrets := map[string]string{"DATABASE_URL": "postgres://kijko_server:x@db/kijko", "DATABASE_WORKER_URL": "postgres://kijko_worker:x@db/kijko",
			"ENCRYPTION_KEY": base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), 32)), "JWT_PRIVATE_KEY": signingKey(t)}
		for name, validate := range map[string]func() error{
			"kijko-server": func() error { c, err := config.Load(); return errors.Join(err, c.Validate()) },
			"kijko-worker": func() error { c, err := worker.Load(); return errors.Join(err, c.Validate()) },
		} {
			given := map[string]string{}
			for setting, value := range settings {
				given[setting] = value
			}
			for _, e := range pods[name].Spec.Template.Spec.Containers[0].Env {
				require.Contains(t, secrets, e.Name)
				given[e.Name] = secrets[e.Name]
			}
			with(t, given, func() { require.NoError(t, validate(), name) })
			for _, e := range pods[name].Spec.Template.Spec.Containers[0].Env {
				if e.Name != "DATABASE_WORKER_URL" || name == "kijko-worker" {
					with(t, given, func() {
						require.NoError(t, os.Unsetenv(e.Name))
						require.Error(t, validate(), "%s starts without %s", name, e.Name)
					})
				}
			}
		}
	})
}

func TestTheImageOfTheManifestsRunsTheirCommands(t *testing.T) {
	text := string(read(t, "Dockerfile"))
	for _, m := range loadManifests(t) {
		for _, c := range m.Spec.Template.Spec.Containers {
			require.Contains(t, text, "/"+filepath.Base(c.Args[0]), "the image builds %s", c.Args[0])
		}
	}
}

// with runs f with these settings and no others.
func with(t *testing.T, settings map[string]string, f func()) {
	t.Helper()
	for name := range known() {
		before, was := os.LookupEnv(name)
		value, given := settings[name]
		if given {
			require.NoError(t, os.Setenv(name, value))
		} else {
			require.NoError(t, os.Unsetenv(name))
		}
		defer func() {
			if was {
				_ = os.Setenv(name, before)
			} else {
				_ = os.Unsetenv(name)
			}
		}()
	}
	f()
}

func signingKey(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}
