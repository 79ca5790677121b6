import java.io.FileInputStream;
import java.io.InputStreamReader;
import java.io.Reader;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.Key;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Collections;
import java.util.List;
import java.util.Properties;
import java.util.TreeSet;

/**
 * Reads files as Java programs do, for the tests of the template functions:
 * {@code Read KIND DIRECTORY} reads the files 0, 1, … of the directory and
 * prints a line of base64 fields for each.
 */
class Read {
    public static void main(String[] args) throws Exception {
        Path dir = Path.of(args[1]);
        for (int i = 0; Files.exists(dir.resolve("" + i)); i++) {
            Path file = dir.resolve("" + i);
            List<String> fields;
            switch (args[0]) {
                case "properties-stream": fields = properties(file, false); break;
                case "properties-utf8": fields = properties(file, true); break;
                case "store": fields = store(file, Files.readString(dir.resolve(i + ".password"))); break;
                case "postgresql": fields = postgresql(Files.readString(file)); break;
                case "mariadb": fields = mariadb(Files.readString(file)); break;
                default: throw new IllegalArgumentException(args[0]);
            }
            StringBuilder line = new StringBuilder();
            for (String field : fields) {
                line.append(Base64.getEncoder().encodeToString(field.getBytes(StandardCharsets.UTF_8))).append(' ');
            }
            System.out.println(line.toString().strip());
        }
    }

    static List<String> properties(Path file, boolean utf8) throws Exception {
        Properties p = new Properties();
        if (utf8) {
            try (Reader r = new InputStreamReader(new FileInputStream(file.toFile()), StandardCharsets.UTF_8)) {
                p.load(r);
            }
        } else {
            try (FileInputStream in = new FileInputStream(file.toFile())) {
                p.load(in); // ISO 8859-1
            }
        }
        List<String> fields = new ArrayList<>();
        for (String key : new TreeSet<>(p.stringPropertyNames())) {
            fields.add("k" + key);
            fields.add("v" + p.getProperty(key));
        }
        return fields;
    }

    static List<String> store(Path file, String password) throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        try (FileInputStream in = new FileInputStream(file.toFile())) {
            store.load(in, password.toCharArray());
        }
        List<String> fields = new ArrayList<>();
        for (String alias : new TreeSet<>(Collections.list(store.aliases()))) {
            if (store.isCertificateEntry(alias)) {
                fields.add("trusted");
                fields.add(hex(store.getCertificate(alias).getEncoded()));
                continue;
            }
            Key key = store.getKey(alias, password.toCharArray());
            fields.add("key " + hex(key.getEncoded()));
            for (Certificate c : store.getCertificateChain(alias)) {
                fields.add(hex(c.getEncoded()));
            }
        }
        return fields;
    }

    static String hex(byte[] bytes) {
        StringBuilder b = new StringBuilder();
        for (byte x : bytes) {
            b.append(String.format("%02x", x));
        }
        return b.toString();
    }

    static List<String> postgresql(String url) throws Exception {
        Method parse = Class.forName("org.postgresql.Driver").getMethod("parseURL", String.class, Properties.class);
        Properties p = (Properties) parse.invoke(null, url, new Properties());
        return Arrays.asList("" + p.getProperty("PGHOST"), "" + p.getProperty("PGPORT"), "" + p.getProperty("PGDBNAME"), p.getProperty("user", ""), p.getProperty("password", ""), "" + p.getProperty("ApplicationName"));
    }

    static List<String> mariadb(String url) throws Exception {
        Object parser = Class.forName("org.mariadb.jdbc.UrlParser").getMethod("parse", String.class, Properties.class).invoke(null, url, new Properties());
        Object host = ((List<?>) parser.getClass().getMethod("getHostAddresses").invoke(parser)).get(0);
        Object options = parser.getClass().getMethod("getOptions").invoke(parser);
        return Arrays.asList("" + host.getClass().getField("host").get(host), "" + host.getClass().getField("port").get(host), "" + parser.getClass().getMethod("getDatabase").invoke(parser),
            text(parser.getClass().getMethod("getUsername").invoke(parser)), text(parser.getClass().getMethod("getPassword").invoke(parser)), "" + options.getClass().getField("servicePrincipalName").get(options));
    }

    static String text(Object o) {
        return o == null ? "" : o.toString();
    }
}
