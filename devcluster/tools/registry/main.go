// Command registry is an OCI registry in memory, for tests: with the referrers API, and with TLS and basic
// authentication where the flags say so. Its first line of output is the address that it listens on. It ends
// with its standard input, and so with the test that started it.
package main

import (
	"crypto/subtle"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	address := flag.String("address", "127.0.0.1:0", "where to listen; port 0 is a free one")
	certificate := flag.String("tls-cert", "", "file with the certificate chain in PEM; without it, plain HTTP")
	key := flag.String("tls-key", "", "file with the certificate's private key in PEM")
	user := flag.String("user", "", "name that basic authentication asks for; without it, anybody is served")
	password := flag.String("password", "", "password of that user")
	referrers := flag.Bool("referrers", true, "serve the referrers API")
	flag.Parse()

	silent := log.New(io.Discard, "", 0)
	handler := registry.New(registry.WithReferrersSupport(*referrers), registry.Logger(silent))
	if *user != "" {
		handler = authenticated(handler, *user, *password)
	}
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	server := &http.Server{Handler: handler, ErrorLog: silent}
	if *certificate == "" {
		log.Fatal(server.Serve(listener))
	}
	log.Fatal(server.ServeTLS(listener, *certificate, *key))
}

// authenticated serves the one user only.
func authenticated(handler http.Handler, user, password string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, secret, _ := r.BasicAuth()
		known := subtle.ConstantTimeCompare([]byte(name), []byte(user)) == 1
		if !known || subtle.ConstantTimeCompare([]byte(secret), []byte(password)) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			http.Error(w, "authentication required", http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, r)
	})
}
