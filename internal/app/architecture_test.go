package app_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// These tests hold the code against docs/architecture.md: the tables there say which package belongs to which layer, and
// what a layer may import. To allow more, change the page, and say there why.
const (
	root   = "../.."
	page   = root + "/docs/architecture.md"
	module = "cohortflow/"
)

// architecture is what the page says.
type architecture struct {
	layers   map[string][]string // layer → layers, or packages, that it may import
	packages map[string]string   // package, or package/... → layer
}

// pkg is what "go list" says of a package, its imports without their tests'.
type pkg struct {
	ImportPath, Dir, Name, Doc string
	Imports, GoFiles           []string
}

// name is the package's path inside the module; its imports are named alike, or left out when they are not ours.
func (p pkg) name() string { return strings.TrimPrefix(p.ImportPath, module) }

func (p pkg) ours() []string {
	var ours []string
	for _, path := range p.Imports {
		if name, ok := strings.CutPrefix(path, module); ok {
			ours = append(ours, name)
		}
	}
	return ours
}

func listPackages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Dir,Name,Doc,Imports,GoFiles", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	require.NoError(t, err)
	var all []pkg
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
		if len(p.GoFiles) > 0 { // a folder of tests only belongs to no layer
			all = append(all, p)
		}
	}
	require.Greater(t, len(all), 20)
	return all
}

var quoted = regexp.MustCompile("`([^`]+)`")

// readPage reads the two tables: their headers begin with "layer" and "package".
func readPage(text string) architecture {
	a := architecture{layers: map[string][]string{}, packages: map[string]string{}}
	table := ""
	for row := range strings.Lines(text) {
		cells := strings.Split(row, "|")
		if len(cells) < 4 {
			table = ""
			continue
		}
		first := quoted.FindStringSubmatch(cells[1])
		if first == nil {
			if title := strings.TrimSpace(cells[1]); !strings.HasPrefix(title, "-") {
				table = title
			}
			continue
		}
		var second []string
		for _, match := range quoted.FindAllStringSubmatch(cells[2], -1) {
			second = append(second, match[1])
		}
		switch table {
		case "layer":
			a.layers[first[1]] = second
		case "package":
			a.packages[first[1]] = strings.Join(second, " ")
		}
	}
	return a
}

// layer is that of the most specific line about a package; "": there is none.
func (a architecture) layer(name string) string {
	if layer := a.packages[name]; layer != "" {
		return layer
	}
	for above := name; above != "." && above != "/"; above = filepath.Dir(above) {
		if layer := a.packages[above+"/..."]; layer != "" {
			return layer
		}
	}
	return ""
}

// violations lists the packages that the page does not know, and the imports that it does not allow.
func (a architecture) violations(packages []pkg) (found []string) {
	for _, p := range packages {
		layer := a.layer(p.name())
		if layer == "" {
			found = append(found, p.name()+" is in no line of the table of packages")
			continue
		}
		for _, imported := range p.ours() {
			to := a.layer(imported)
			if !slices.Contains(a.layers[layer], imported) && (to == "" || !slices.Contains(a.layers[layer], to)) {
				found = append(found, fmt.Sprintf("%s (%s) imports %s (%s)", p.name(), layer, imported, to))
			}
		}
	}
	return found
}

// circles lists the layers that can be reached from themselves through others.
func (a architecture) circles() (found []string) {
	for start := range a.layers {
		seen, next := map[string]bool{}, []string{start}
		for len(next) > 0 {
			layer := next[0]
			next = next[1:]
			for _, to := range a.layers[layer] {
				if to == start && layer != start {
					found = append(found, start)
				}
				if !seen[to] && to != layer {
					seen[to] = true
					next = append(next, to)
				}
			}
		}
	}
	return found
}

func setup(t *testing.T) architecture {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	a := readPage(string(text))
	require.Greater(t, len(a.layers), 5, "the table of layers was not found")
	require.Greater(t, len(a.packages), 10, "the table of packages was not found")
	return a
}

func TestImportsFollowTheArrows(t *testing.T) {
	t.Parallel()
	require.Empty(t, setup(t).violations(listPackages(t)))
}

func TestArrowsRunOneWay(t *testing.T) {
	t.Parallel()
	a := setup(t)
	require.Empty(t, a.circles())
	for name, layer := range a.packages {
		require.Contains(t, a.layers, layer, name)
	}
}

func TestPackagesSayWhatTheyAreFor(t *testing.T) {
	t.Parallel()
	for _, p := range listPackages(t) {
		want := "Package " + p.Name + " "
		if p.Name == "main" {
			want = "Command " + filepath.Base(p.Dir) + " "
		}
		require.Truef(t, strings.HasPrefix(p.Doc, want), "%s: the package comment begins with %q, not %q", p.name(), p.Doc, want)
	}
}

// callerOnly is what capabilities may know of identity: who is calling, and how the name of a user is written.
var callerOnly = []string{"Caller", "CallerOf", "DisplayName", "Machine", "NoMachine", "QueryExecutor", "SolrETL", "Rollout"}

func TestCapabilitiesKnowOnlyTheCaller(t *testing.T) {
	t.Parallel()
	a, checked := setup(t), 0
	for _, p := range listPackages(t) {
		if a.layer(p.name()) != "capability" || !slices.Contains(p.ours(), "internal/identity") {
			continue
		}
		for _, file := range p.GoFiles {
			parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			for _, used := range usedOf(parsed, "identity") {
				checked++
				require.Containsf(t, callerOnly, used, "%s/%s uses identity.%s", p.name(), file, used)
			}
		}
	}
	require.Positive(t, checked)
}

// usedOf are the names that a file uses of a package.
func usedOf(file *ast.File, name string) (used []string) {
	ast.Inspect(file, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := selector.X.(*ast.Ident); ok && x.Name == name {
				used = append(used, selector.Sel.Name)
			}
		}
		return true
	})
	return used
}

// TestChecksCanFail: what the tests above look for is found where it is.
func TestChecksCanFail(t *testing.T) {
	t.Parallel()
	const text = "| layer | may import | why |\n| --- | --- | --- |\n| `high` | `low` | x |\n| `low` | `b/one` | x |\n\n" +
		"| package | layer | meaning |\n| --- | --- | --- |\n| `a/...` | `high` | x |\n| `a/deep` | `low` | x |\n| `b/one` | `low` | x |\n"
	a := readPage(text)
	require.Equal(t, []string{"high", "high", "low", ""}, []string{a.layer("a"), a.layer("a/x/y"), a.layer("a/deep"), a.layer("c")})
	require.Empty(t, a.circles())
	of := func(name string, imports ...string) pkg {
		p := pkg{ImportPath: module + name, Imports: []string{"fmt"}}
		for _, i := range imports {
			p.Imports = append(p.Imports, module+i)
		}
		return p
	}
	require.Empty(t, a.violations([]pkg{of("a/x", "a/deep", "b/one"), of("a/deep", "b/one")}))
	require.Equal(t, []string{"a/x (high) imports a/y (high)", "b/one (low) imports a (high)", "a/x (high) imports c ()", "c is in no line of the table of packages"},
		a.violations([]pkg{of("a/x", "a/y"), of("b/one", "a"), of("a/x", "c"), of("c")}))
	a.layers["low"] = []string{"high"}
	require.ElementsMatch(t, []string{"high", "low"}, a.circles())

	file, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\nvar _ = identity.Hash(identity.Caller{}, other.Thing)", 0)
	require.NoError(t, err)
	require.Equal(t, []string{"Hash", "Caller"}, usedOf(file, "identity"))
}
