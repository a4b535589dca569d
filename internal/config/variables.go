package config

import (
	"reflect"
	"strings"
)

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
