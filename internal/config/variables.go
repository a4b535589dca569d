package config

import (
	"reflect"
	"strings"
)

// trimLists takes the blanks from the items of all lists, and empty items out: a list may be written with a blank after each
// comma, or over several lines.
func trimLists(v reflect.Value) {
	for i := range v.NumField() {
		field := v.Field(i)
		switch {
		case field.Kind() == reflect.Struct:
			trimLists(field)
		case field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.String:
			kept := reflect.Zero(field.Type())
			for k := range field.Len() {
				if text := strings.TrimSpace(field.Index(k).String()); text != "" {
					kept = reflect.Append(kept, reflect.ValueOf(text).Convert(field.Type().Elem()))
				}
			}
			field.Set(kept)
		}
	}
}

// variables are the names of all variables that Config reads.
func variables() []string {
	var names []string
	var walk func(t reflect.Type)
	walk = func(t reflect.Type) {
		for i := range t.NumField() {
			field := t.Field(i)
			name, _, _ := strings.Cut(field.Tag.Get("env"), ",")
			switch {
			case name != "" && name != "-":
				names = append(names, name)
			case field.Type.Kind() == reflect.Struct:
				walk(field.Type)
			}
		}
	}
	walk(reflect.TypeFor[Config]())
	return names
}
