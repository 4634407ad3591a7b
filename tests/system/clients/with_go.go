// Send one request with net/http: METHOD URL OUTPUT BODY RANGE CA.
// Go is given the authority by SSL_CERT_FILE.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
)

func main() {
	method, url, output, body, span := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	var source io.Reader
	if body != "-" {
		file, err := os.Open(body)
		check(err)
		source = file
	}
	request, err := http.NewRequest(method, url, source)
	check(err)
	if span != "-" {
		request.Header.Set("Range", "bytes="+span)
	}
	answer, err := http.DefaultClient.Do(request)
	check(err)
	file, err := os.Create(output)
	check(err)
	_, err = io.Copy(file, answer.Body)
	check(err)
	length := answer.Header.Get("Content-Length")
	if length == "" {
		length = "-"
	}
	fmt.Println(answer.StatusCode, length)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
