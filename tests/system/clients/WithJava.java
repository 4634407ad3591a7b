import java.io.FileInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** Send one request with java.net.http: METHOD URL OUTPUT BODY RANGE CA. */
class WithJava {
    public static void main(String[] arguments) throws Exception {
        String method = arguments[0], url = arguments[1], output = arguments[2];
        String body = arguments[3], span = arguments[4], ca = arguments[5];
        HttpClient.Builder client = HttpClient.newBuilder();
        if (!ca.equals("-")) {
            client.sslContext(trusting(ca));
        }
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(url));
        request.method(method, body.equals("-") ? BodyPublishers.noBody() : BodyPublishers.ofFile(Path.of(body)));
        if (!span.equals("-")) {
            request.header("Range", "bytes=" + span);
        }
        var answer = client.build().send(request.build(), BodyHandlers.ofFile(Path.of(output)));
        System.out.println(answer.statusCode() + " " + answer.headers().firstValue("Content-Length").orElse("-"));
    }

    private static SSLContext trusting(String ca) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null);
        try (FileInputStream file = new FileInputStream(ca)) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }
}
