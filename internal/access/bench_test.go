package access

import (
	"fmt"
	"testing"
)

// hospital is a tree of some 30,000 perimeters on six levels.
func hospital() []Perimeter {
	var rows []Perimeter
	for level, first := 1, 0; len(rows) < 30_000; level++ {
		width := len(rows) - first
		begin := len(rows)
		if width == 0 {
			width = 1
		}
		for i := range width * 8 {
			if len(rows) == 30_000 {
				break
			}
			id := int64(len(rows))
			p := Perimeter{
				ID: id, LocalID: fmt.Sprint(id), Name: new(fmt.Sprint("Unité ", id)), SourceValue: new(fmt.Sprint("U", id)), CohortID: new(fmt.Sprint(id)),
				FullPath: new(fmt.Sprint("Hôpital/Unité ", id)), TypeSourceValue: new("Unité"), Level: &level,
			}
			if id > 0 {
				p.ParentID = new(int64(first + i/8))
			}
			rows = append(rows, p)
			if id == 0 {
				break
			}
		}
		first = begin
	}
	return rows
}

func BenchmarkTree(b *testing.B) {
	rows := hospital()
	tree := BuildTree(rows)
	g := granted(give{nomi, 0}, give{pseudo, 100})
	b.Run("Build", func(b *testing.B) {
		for b.Loop() {
			BuildTree(rows)
		}
	})
	b.Run("Search", func(b *testing.B) {
		for b.Loop() {
			ReadRights(tree, g, PerimeterFilter{Search: []string{"unité 2999"}}.matcher())
		}
	})
	b.Run("Everything", func(b *testing.B) {
		for b.Loop() {
			ReadRights(tree, g, PerimeterFilter{}.matcher())
		}
	})
	b.Run("CanManage", func(b *testing.B) {
		role, leaf := nomi, int64(29_000)
		for b.Loop() {
			CanManage(tree, granted(give{dam, 0}), &role, &leaf)
		}
	})
}
