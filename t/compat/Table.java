import java.util.HashMap;
import java.util.Map;

/** A table that is filled, overwritten and added up by threads; garbage, and code to compile. */
public class Table {
    private static int fill(int seed, int round, Map<String, int[]> table) {
        int sum = 0;
        for (int i = 0; i < 40000; i++) {
            table.put("key " + ((round * 7919 + i + seed) % 50000), new int[] {round, i, i % 50});
        }
        for (int k = 0; k < 50000; k++) {
            int[] value = table.get("key " + k);
            sum = value == null ? sum : sum * 31 + value[0] + value[1] + value[2];
        }
        return sum;
    }

    public static void main(String[] arguments) throws InterruptedException {
        final Map<String, int[]> mine = new HashMap<>(), others = new HashMap<>();
        for (int round = 0; round < 60; round++) {
            final int now = round;
            final int[] sum = new int[1];
            Thread other = new Thread(() -> sum[0] = fill(1, now, others));
            other.start();
            int own = fill(0, now, mine);
            other.join();
            System.out.println(round + " " + own + " " + sum[0]);
        }
    }
}
