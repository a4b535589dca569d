package export

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// oracle reads cells the slow way: from what encoding/json makes of a resource.
type oracle struct{}

// scalars are the values at the end of the steps, in order.
func scalars(v any, steps []step) (found []any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			found = append(found, scalars(e, steps)...)
		}
	case map[string]any:
		if len(steps) == 0 {
			return nil
		}
		where, inside := steps[0].where, v[steps[0].key]
		if where == nil {
			return scalars(inside, steps[1:])
		}
		elements, isList := inside.([]any)
		if !isList {
			elements = []any{inside}
		}
		for _, e := range elements {
			for _, s := range scalars(e, where.path) {
				if text := fmt.Sprint(s); where.contains && strings.Contains(strings.ToLower(text), where.value) || !where.contains && text == where.value {
					found = append(found, scalars(e, steps[1:])...)
					break
				}
			}
		}
	case nil:
	default:
		if len(steps) == 0 {
			found = []any{v}
		}
	}
	return found
}

// items are the items of a response, also those inside of other items and of answers, each before those inside of it.
func items(v any) (list []map[string]any) {
	elements, _ := v.([]any)
	for _, e := range elements {
		item, _ := e.(map[string]any)
		list = append(append(list, item), items(item["item"])...)
		answers, _ := item["answer"].([]any)
		for _, a := range answers {
			answer, _ := a.(map[string]any)
			list = append(list, items(answer["item"])...)
		}
	}
	return list
}

func (o oracle) cell(a accessor, levels []map[string]any) string {
	if a.constant != "" {
		return a.constant
	}
	from := levels[len(levels)-1-a.level]
	if a.pivot != "" {
		return o.answers(a, items(from["item"]))
	}
	text := ""
	for _, steps := range a.alternatives {
		values := scalars(from, steps)
		if text != "" || len(values) == 0 {
			continue
		}
		if text = fmt.Sprint(values[0]); a.all {
			text = strings.TrimSuffix(fmt.Sprintln(values...), "\n")
		}
	}
	if a.id {
		text, _, _ = strings.Cut(text, "/_history/")
		text = text[strings.LastIndexByte(text, '/')+1:]
	}
	if decoded, err := base64.StdEncoding.DecodeString(text); a.base64 && err == nil {
		text = string(decoded)
	}
	return text
}

func (o oracle) answers(a accessor, asked []map[string]any) string {
	var texts []string
	for _, item := range asked {
		answers, _ := item["answer"].([]any)
		for _, answer := range answers {
			for _, steps := range a.alternatives {
				if values := scalars(answer, steps); len(values) > 0 && item["linkId"] == a.pivot {
					texts = append(texts, fmt.Sprint(values[0]))
					break
				}
			}
		}
	}
	return strings.Join(texts, " ")
}

func (o oracle) rows(t *testing.T, p planned, text string) (rows [][]string) {
	t.Helper()
	var resource map[string]any
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	require.NoError(t, dec.Decode(&resource), "%s", text)
	if _, there := resource[p.table.require]; p.table.require != "" && !there {
		return nil
	}
	all := [][]map[string]any{{resource}}
	for _, key := range p.table.explode {
		var next [][]map[string]any
		for _, levels := range all {
			elements, _ := levels[len(levels)-1][key].([]any)
			within := items(elements)
			if key != "item" {
				within = nil
				for _, e := range elements {
					element, _ := e.(map[string]any)
					within = append(within, element)
				}
			}
			for _, e := range within {
				next = append(next, append(levels[:len(levels):len(levels)], e))
			}
		}
		all = next
	}
	for _, levels := range all {
		var row []string
		for _, c := range p.columns {
			row = append(row, o.cell(c.accessor, levels))
		}
		rows = append(rows, row)
	}
	return rows
}

// tree is what there is to find in an object: its members, and what there is to find in them. Items lead to items.
type tree map[string]tree

func (t tree) in(key string) tree {
	if t[key] == nil {
		t[key] = tree{}
	}
	return t[key]
}

func (t tree) add(steps []step) {
	for _, s := range steps {
		if t = t.in(s.key); s.where != nil {
			t.add(s.where.path)
		}
	}
}

// treeOf is what the columns of a table look for.
func treeOf(p planned) tree {
	levels := []tree{{}}
	for i, key := range p.table.explode {
		levels = append(levels, levels[i].in(key))
		if key == "item" {
			levels[i+1]["item"], levels[i+1].in("answer")["item"] = levels[i+1], levels[i+1]
		}
	}
	for _, c := range p.columns {
		at := levels[len(levels)-1-c.level]
		if c.pivot != "" {
			item := at.in("item")
			item.in("linkId")
			item["item"], item.in("answer")["item"] = item, item
			at = item["answer"]
		}
		for _, steps := range c.alternatives {
			at.add(steps)
		}
	}
	if p.table.require != "" {
		levels[0].in(p.table.require)
	}
	return levels[0]
}

// writer makes resources up: members that the mapping knows, and others, of any kind and written in any way that JSON allows.
type writer struct {
	*rand.Rand
	b strings.Builder
}

func (w *writer) oneOf(list ...string) string { return list[w.IntN(len(list))] }

func (w *writer) blank() {
	if w.IntN(12) == 0 {
		w.b.WriteString(w.oneOf(" ", "\n", "\t ", "\r\n"))
	}
}

func (w *writer) text(s string) {
	w.b.WriteByte('"')
	for _, r := range s {
		if w.IntN(40) == 0 && r < 0x10000 {
			fmt.Fprintf(&w.b, `\u%04x`, r)
			continue
		}
		w.b.WriteRune(r)
	}
	w.b.WriteByte('"')
}

func (w *writer) scalar() {
	switch w.IntN(4) {
	case 0:
		w.b.WriteString(w.oneOf("0", "-12.50", "1e5", "1E-7", "-0", "123456789012345678901234567890", "0.1e400", "true", "false", "null"))
	case 1:
		w.b.WriteString(w.oneOf(`""`, `"\"\\\/\b\f\n\r\t"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ude00x"`, `"\u0000"`, `"a]}\",:"`))
	default:
		w.text(w.oneOf("Patient/12", "http://h/fhir/Patient/3/_history/9", "IPP", "text/plain", "w6l0w6k=", "iris", "Zoé 𝛼", "1.1", "a, b"))
	}
}

func (w *writer) value(inside tree, depth int) {
	w.blank()
	switch kind := w.IntN(8); {
	case depth == 0 || len(inside) == 0 && kind > 0 || kind == 7:
		w.scalar()
	case kind < 4:
		w.object(inside, depth-1)
	default:
		w.b.WriteByte('[')
		for i := range w.IntN(4) {
			if i > 0 {
				w.b.WriteByte(',')
			}
			if w.blank(); w.IntN(6) == 0 {
				w.scalar()
			} else {
				w.object(inside, depth-1)
			}
			w.blank()
		}
		w.b.WriteByte(']')
	}
	w.blank()
}

func (w *writer) object(known tree, depth int) {
	keys := slices.Sorted(maps.Keys(known))
	w.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	keys = append([]string{"other", "id"}, keys...)
	w.b.WriteByte('{')
	first := true
	for i, key := range keys {
		if w.IntN(4) == 0 || i > 0 && slices.Contains(keys[:i], key) {
			continue
		}
		if !first {
			w.b.WriteByte(',')
		}
		first = false
		w.blank()
		w.text(key)
		w.blank()
		w.b.WriteByte(':')
		w.value(known[key], depth)
	}
	w.blank()
	w.b.WriteByte('}')
}

// Whatever a resource looks like, its cells are those that the standard library finds.
func TestReaderAgreesWithTheStandardLibrary(t *testing.T) {
	t.Parallel()
	for name := range specifications {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := tableOf(t, name)
			if name == pivotTable {
				a, err := compileAccessor(answerValue(""))
				require.NoError(t, err)
				a.pivot = "1.1"
				p.columns = append(p.columns, column{"1.1", a})
			}
			random := rand.New(rand.NewPCG(1, uint64(len(name))))
			known, r, out, filled := treeOf(p), newReader(p, false), &batch{}, 0
			for range 200 {
				w := &writer{Rand: random}
				w.object(known, 8)
				out.reset(len(p.columns))
				end, err := r.rows([]byte(w.b.String()), out)
				require.NoError(t, err, "%s", w.b.String())
				require.Equal(t, w.b.Len(), end)
				var got [][]string
				for row := range out.rows {
					var cells []string
					for column := range p.columns {
						text, _ := out.cell(row, column)
						filled += min(len(text), 1)
						cells = append(cells, string(text))
					}
					got = append(got, cells)
				}
				require.Equal(t, oracle{}.rows(t, p, w.b.String()), got, "%s", w.b.String())
			}
			require.Greater(t, filled, 100, "there was something to find")
		})
	}
}
