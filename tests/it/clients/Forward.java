import java.io.FileInputStream;
import java.net.InetSocketAddress;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.WebSocket;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/**
 * Java's own client, as it is: it offers HTTP/2 with every request in the clear. Asks for a plain
 * and an encrypted page through a proxy, for a plain one from it, and for an echo over a WebSocket,
 * and prints what came: one line for each answer.
 *
 * <p>Forward.java PROXY_PORT PLAIN_URL SECRET_URL CA
 */
public final class Forward {
    public static void main(String[] arguments) throws Exception {
        int port = Integer.parseInt(arguments[0]);
        InetSocketAddress proxy = new InetSocketAddress("127.0.0.1", port);
        HttpClient through =
                HttpClient.newBuilder()
                        .proxy(ProxySelector.of(proxy))
                        .sslContext(trusting(arguments[3]))
                        .build();
        ask(through, arguments[1]);
        ask(through, arguments[2]);
        HttpClient direct = HttpClient.newHttpClient();
        ask(direct, "http://127.0.0.1:" + port + "/direct");
        System.out.println("websocket " + echo(direct, "ws://127.0.0.1:" + port + "/echo"));
        System.out.println("websocket " + echo(through, "ws://svc.test/echo"));
    }

    private static void ask(HttpClient client, String url) throws Exception {
        HttpRequest.Builder to = HttpRequest.newBuilder(URI.create(url));
        to.timeout(Duration.ofSeconds(60));
        String body = "x".repeat(100_000);
        HttpRequest get = to.copy().GET().build();
        HttpRequest post = to.POST(HttpRequest.BodyPublishers.ofString(body)).build();
        for (HttpRequest request : new HttpRequest[] {get, post}) {
            HttpResponse<String> answer =
                    client.send(request, HttpResponse.BodyHandlers.ofString());
            if (answer.version() != HttpClient.Version.HTTP_1_1) {
                throw new IllegalStateException("answered over " + answer.version());
            }
            System.out.println(answer.statusCode() + " " + answer.body());
        }
    }

    private static String echo(HttpClient client, String url) throws Exception {
        CompletableFuture<String> heard = new CompletableFuture<>();
        WebSocket.Listener listener =
                new WebSocket.Listener() {
                    @Override
                    public CompletionStage<?> onText(WebSocket socket, CharSequence text, boolean last) {
                        heard.complete(text.toString());
                        return null;
                    }

                    @Override
                    public void onError(WebSocket socket, Throwable error) {
                        heard.completeExceptionally(error);
                    }
                };
        WebSocket socket =
                client.newWebSocketBuilder().buildAsync(URI.create(url), listener).get(60, TimeUnit.SECONDS);
        socket.sendText("hello", true).get(60, TimeUnit.SECONDS);
        String word = heard.get(60, TimeUnit.SECONDS);
        socket.sendClose(WebSocket.NORMAL_CLOSURE, "").get(60, TimeUnit.SECONDS);
        return word;
    }

    private static SSLContext trusting(String file) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (FileInputStream pem = new FileInputStream(file)) {
            CertificateFactory reader = CertificateFactory.getInstance("X.509");
            store.setCertificateEntry("ca", reader.generateCertificate(pem));
        }
        TrustManagerFactory trust =
                TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }
}
