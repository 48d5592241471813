import java.io.File;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.util.*;
import java.util.jar.*;
import org.apache.hadoop.hive.conf.HiveConf;
import org.apache.hadoop.hive.metastore.*;
import org.apache.hadoop.hive.metastore.model.MTable;
import org.apache.hadoop.hive.thrift.TUGIContainingTransport;
import org.apache.thrift.server.TThreadPoolServer;
import org.apache.thrift.transport.*;
import org.datanucleus.StoreNucleusContext;
import org.datanucleus.enhancement.Persistable;
import org.datanucleus.store.schema.SchemaAwareStoreManager;
import org.datanucleus.store.schema.SchemaTool;

/**
 * Hive's metastore server, on loopback and for this user only. Its settings are in hive-site.xml.
 *
 * <p>`--create` makes its tables in an empty database. `--port=N` serves.
 *
 * <p>Hive's own main class listens on all addresses, whatever its settings say. Spark's jars have
 * no other program to start it, but a compiler that compiles and runs this file: Janino. It knows
 * no type parameters.
 */
public class Metastore {
    public static void main(String[] arguments) throws Exception {
        HiveConf conf = new HiveConf();
        if (arguments[0].equals("--create")) {
            createTables(conf);
            System.exit(0);
        }
        int port = Integer.parseInt(arguments[0].substring("--port=".length()));
        IHMSHandler handler = HiveMetaStore.newRetryingHMSHandler(
            new HiveMetaStore.HMSHandler("metastore", conf, false), conf);
        TThreadPoolServer.Args server = new TThreadPoolServer.Args(new OwnSocket(port));
        server.processor(new TUGIBasedProcessor(handler));
        server.transportFactory(new TUGIContainingTransport.Factory());
        new TThreadPoolServer(server).serve();
    }

    /** At once. If the server did it when they are needed, it would wait for its own locks. */
    private static void createTables(HiveConf conf) throws Exception {
        Map settings = new HashMap();
        for (Iterator all = conf.iterator(); all.hasNext();) {
            String name = (String) ((Map.Entry) all.next()).getKey();
            if (name.startsWith("javax.jdo.") || name.startsWith("datanucleus.")) {
                settings.put(name, conf.get(name));
            }
        }
        Set classes = new HashSet();
        JarFile jar = new JarFile(
            new File(MTable.class.getProtectionDomain().getCodeSource().getLocation().toURI()));
        for (Enumeration files = jar.entries(); files.hasMoreElements();) {
            String file = ((JarEntry) files.nextElement()).getName();
            if (file.matches("org/apache/hadoop/hive/metastore/model/\\w+\\.class")) {
                String name = file.substring(0, file.length() - ".class".length()).replace('/', '.');
                if (Persistable.class.isAssignableFrom(Class.forName(name))) {
                    classes.add(name);
                }
            }
        }
        StoreNucleusContext context = SchemaTool.getNucleusContextForMode(
            SchemaTool.Mode.CREATE, "JDO", settings, null, null, false);
        new SchemaTool().createSchemaForClasses(
            (SchemaAwareStoreManager) context.getStoreManager(), classes);
    }

    /**
     * Refuses processes of other users. The protocol has no password, and who may speak to a
     * metastore can have it make and delete folders.
     */
    private static class OwnSocket extends TServerSocket {
        private final int port;

        OwnSocket(int port) throws Exception {
            super(new InetSocketAddress(InetAddress.getByName("127.0.0.1"), port));
            this.port = port;
        }

        public TSocket accept() throws TTransportException {
            while (true) {
                TSocket accepted = super.accept();
                try {
                    if (isOwn(accepted.getSocket())) {
                        return accepted;
                    }
                } catch (java.io.IOException unknown) {
                    System.err.println(unknown);
                }
                accepted.close();
            }
        }

        /**
         * The kernel's list of connections says whose the other end is: as long as it is open (01).
         * A closed one belongs to nobody, and the list says 0.
         */
        private boolean isOwn(Socket socket) throws java.io.IOException {
            Object own = Files.getAttribute(new File("/proc/self").toPath(), "unix:uid",
                new java.nio.file.LinkOption[0]);
            String there = listed(socket.getInetAddress(), socket.getPort());
            String here = listed(socket.getLocalAddress(), port);
            String[] lists = {"/proc/net/tcp", "/proc/net/tcp6"};
            for (int i = 0; i < lists.length; i++) {
                for (Iterator lines = Files.readAllLines(new File(lists[i]).toPath()).iterator();
                        lines.hasNext();) {
                    String[] fields = ((String) lines.next()).trim().split("\\s+");
                    if (fields[1].endsWith(there) && fields[2].endsWith(here)) {
                        return fields[3].equals("01") && fields[7].equals(own.toString());
                    }
                }
            }
            return false;
        }

        /** An address as the list has it: a number in the machine's order of bytes, and a port. */
        private static String listed(InetAddress address, int port) {
            int number = ByteBuffer.wrap(address.getAddress()).order(ByteOrder.nativeOrder()).getInt();
            return String.format("%08X:%04X", new Object[]{number, port});
        }
    }
}
