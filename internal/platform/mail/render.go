package mail

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"regexp"
	"strings"

	"github.com/flosch/pongo2/v6"
)

// Renderer fills the templates: the site's own where there is one, else the embedded one. It is safe for concurrent use.
type Renderer struct {
	mounted  *pongo2.TemplateSet // nil when nothing is mounted
	embedded *pongo2.TemplateSet
	log      *slog.Logger
}

// Mounted is the directory of a site's own templates, for Config.Mounted. Blank: none.
func Mounted(dir string) (fs.FS, error) {
	if dir == "" {
		return nil, nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("open the mail templates of the site: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("open the mail templates of the site: %s is no directory", dir)
	}
	return os.DirFS(dir), nil
}

// NewRenderer reads templates from embedded, and from mounted (may be nil) before that; those mounted that do not work
// are logged at once. staticURL is put before the paths of {% static %}.
func NewRenderer(embedded, mounted fs.FS, staticURL string, log *slog.Logger) (*Renderer, error) {
	r := &Renderer{log: log}
	var err error
	if r.embedded, err = newSet("embedded", staticURL, embedded); err != nil {
		return nil, err
	}
	if mounted == nil {
		return r, nil
	}
	if r.mounted, err = newSet("mounted", staticURL, mounted, embedded); err != nil {
		return nil, err
	}
	return r, r.tryMounted(mounted)
}

// tryMounted reads every template of the site, so that its mistakes are told when the process starts and not with the
// first mail.
func (r *Renderer) tryMounted(mounted fs.FS) error {
	entries, err := fs.ReadDir(mounted, ".")
	if err != nil {
		return fmt.Errorf("list the mail templates of the site: %w", err)
	}
	for _, entry := range entries {
		if ext := path.Ext(entry.Name()); entry.IsDir() || ext != ".html" && ext != ".txt" {
			continue
		}
		if _, err := r.mounted.FromCache(entry.Name()); err != nil {
			r.warn(entry.Name(), templateError(entry.Name(), err))
		}
	}
	return nil
}

func (r *Renderer) warn(name string, err error) {
	r.log.Warn("mail template of the site does not work, using the built-in one", "template", name, "error", err)
}

func newSet(name, staticURL string, layers ...fs.FS) (*pongo2.TemplateSet, error) {
	set := pongo2.NewSet(name, &loader{layers: layers, staticURL: staticURL})
	// ssi reads any file of the machine, which no mail needs.
	if err := set.BanTag("ssi"); err != nil {
		return nil, fmt.Errorf("prepare mail templates: %w", err)
	}
	return set, nil
}

// Mail renders both forms of a mail. Values are escaped in the HTML one only. A mounted template that does not work is
// logged and replaced by the embedded one; without that the error is an ErrTemplate.
func (r *Renderer) Mail(name string, data map[string]any) (text, html string, err error) {
	if html, err = r.File(name+".html", data); err != nil {
		return "", "", err
	}
	if text, err = r.File(name+".txt", data); err != nil {
		return "", "", err
	}
	return tidyText(text), html, nil
}

// File renders one template by its file name, such as feasibility_report.html.
func (r *Renderer) File(name string, data map[string]any) (string, error) {
	if r.mounted != nil {
		out, err := render(r.mounted, name, data)
		if err == nil {
			return out, nil
		}
		r.warn(name, err)
	}
	return render(r.embedded, name, data)
}

func render(set *pongo2.TemplateSet, name string, data map[string]any) (string, error) {
	template, err := set.FromCache(name)
	if err != nil {
		return "", templateError(name, err)
	}
	out, err := template.Execute(pongo2.Context(maps.Clone(data)))
	if err != nil {
		return "", templateError(name, err)
	}
	return out, nil
}

// templateError tells where a template is wrong, but not what it was being filled with.
func templateError(name string, err error) error {
	var where *pongo2.Error
	if errors.As(err, &where) && where.Line > 0 {
		return fmt.Errorf("%w: %s, line %d of %s (%s)", ErrTemplate, name, where.Line, path.Base(where.Filename), where.Sender)
	}
	return fmt.Errorf("%w: %s", ErrTemplate, name)
}

var blankLines = regexp.MustCompile(`\n[ \t]*(\n[ \t]*){2,}`)

// tidyText removes the blank lines that the tags of a template leave in plain text.
func tidyText(text string) string {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	return strings.TrimSpace(blankLines.ReplaceAllString(text, "\n\n")) + "\n"
}

// loader finds templates by name in the first layer that has them, and translates them for pongo2.
type loader struct {
	layers    []fs.FS
	staticURL string
}

// Abs makes names independent of the including file, as in Django: all are relative to the template directory.
func (l *loader) Abs(_, name string) string {
	return strings.TrimPrefix(path.Clean("/"+name), "/")
}

// Get returns the translated source.
func (l *loader) Get(name string) (io.Reader, error) {
	source, err := l.read(name)
	if err != nil {
		return nil, fmt.Errorf("read template: %w", err)
	}
	return bytes.NewReader(translate(name, source, l.staticURL, l.has)), nil
}

func (l *loader) read(name string) ([]byte, error) {
	for _, layer := range l.layers {
		source, err := fs.ReadFile(layer, name)
		if !errors.Is(err, fs.ErrNotExist) {
			return source, err
		}
	}
	return nil, fs.ErrNotExist
}

func (l *loader) has(name string) bool {
	_, err := l.read(name)
	return err == nil
}
