// Command judge says what the tools that deploy objects think of them: kstatus, as kubectl's and Flux' libraries have
// it, and a health script of Argo CD. It reads a list of objects as `kubectl get -o json` prints it, and writes a line
// of JSON for each.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	flux "github.com/fluxcd/cli-utils/pkg/kstatus/status"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kstatus "sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

// timeout is how long Argo CD lets a script run.
const timeout = time.Second

// verdict is what is said of one object.
type verdict struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Kstatus is Current, InProgress, Failed or Terminating.
	Kstatus string `json:"kstatus"`
	// Health is Healthy, Progressing, Degraded or Suspended.
	Health  string `json:"health"`
	Message string `json:"message"`
}

func main() {
	log.SetFlags(0)
	script := flag.String("health", "", "the health script of Argo CD")
	flag.Parse()
	text, err := os.ReadFile(*script)
	if err != nil {
		log.Fatal(err)
	}
	objects, err := read(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	output := json.NewEncoder(os.Stdout)
	for _, object := range objects {
		verdict, err := judge(object, string(text))
		if err != nil {
			log.Fatalf("%s %q: %v", object.GetKind(), object.GetName(), err)
		}
		if err := output.Encode(verdict); err != nil {
			log.Fatal(err)
		}
	}
}

// read reads the items of a list. Their numbers become integers, as in Kubernetes' clients.
func read(from io.Reader) ([]unstructured.Unstructured, error) {
	data, err := io.ReadAll(from)
	if err != nil {
		return nil, err
	}
	var list unstructured.UnstructuredList
	if err := list.UnmarshalJSON(data); err != nil {
		return nil, err
	}
	return list.Items, nil
}

func judge(object unstructured.Unstructured, script string) (verdict, error) {
	result, err := kstatus.Compute(&object)
	if err != nil {
		return verdict{}, err
	}
	same, err := flux.Compute(&object)
	if err != nil {
		return verdict{}, err
	}
	if result.Status.String() != same.Status.String() {
		return verdict{}, fmt.Errorf("kstatus says %s, and Flux' kstatus %s", result.Status, same.Status)
	}
	health, message, err := healthOf(object.Object, script)
	if err != nil {
		return verdict{}, err
	}
	return verdict{
		Kind: object.GetKind(), Name: object.GetName(),
		Kstatus: result.Status.String(), Health: health, Message: message,
	}, nil
}

// healthOf runs a health script as Argo CD does: with these libraries only, the object as `obj`, and one result.
func healthOf(object map[string]any, script string) (string, string, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage,
		lua.BaseLibName: lua.OpenBase,
		lua.TabLibName:  lua.OpenTable,
	} {
		state.Push(state.NewFunction(open))
		state.Push(lua.LString(name))
		state.Call(1, 0)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	state.SetContext(ctx)
	state.SetGlobal("obj", value(state, object))
	if err := state.DoString(script); err != nil {
		return "", "", err
	}
	table, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return "", "", errors.New("the script returns no table")
	}
	health, message := table.RawGetString("status").String(), table.RawGetString("message").String()
	switch health {
	case "Healthy", "Progressing", "Degraded", "Suspended":
		return health, message, nil
	}
	return "", "", fmt.Errorf("the script returns the status %q", health)
}

// value is what of JSON Lua knows.
func value(state *lua.LState, from any) lua.LValue {
	switch from := from.(type) {
	case map[string]any:
		table := state.NewTable()
		for key, field := range from {
			table.RawSetString(key, value(state, field))
		}
		return table
	case []any:
		table := state.NewTable()
		for _, item := range from {
			table.Append(value(state, item))
		}
		return table
	case string:
		return lua.LString(from)
	case bool:
		return lua.LBool(from)
	case int64:
		return lua.LNumber(from)
	case float64:
		return lua.LNumber(from)
	}
	return lua.LNil
}
