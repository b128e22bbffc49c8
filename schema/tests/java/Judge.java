// The judge of pairs.jsonl: Java Avro itself.
//
// Lines {"reader": "..", "writer": ".."} in; the same lines with what Java says of them out:
//   "refused"      one of the schemas is none
//   "ambiguous"    SchemaCompatibility throws: a reader's field matches several of the writer's
//   "compatible", "findings"   SchemaCompatibility's answer: code, location, message, in its order
//   "reads"        GenericDatumReader read random data of the writer
//   "fails"        it threw on this datum, in hex
//
//   javac -cp 'lib/*' Judge.java && java -Xss4m -cp 'lib/*:.' Judge < pairs.jsonl
//
// lib holds org.apache.avro:avro:1.12.1 and what it depends on.

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.apache.avro.Schema;
import org.apache.avro.SchemaCompatibility;
import org.apache.avro.SchemaCompatibility.Incompatibility;
import org.apache.avro.SchemaCompatibility.SchemaCompatibilityType;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;

public class Judge {
  static final int DATA = 40;
  static final int DEPTH_MAX = 12;

  public static void main(String[] arguments) throws Exception {
    ObjectMapper mapper = new ObjectMapper();
    PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    BufferedReader in =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      ObjectNode asked = (ObjectNode) mapper.readTree(line);
      ObjectNode row = mapper.createObjectNode();
      row.set("reader", asked.get("reader"));
      row.set("writer", asked.get("writer"));
      judge(row);
      out.println(mapper.writeValueAsString(row));
    }
    out.flush();
  }

  static void judge(ObjectNode row) {
    Schema reader;
    Schema writer;
    try {
      reader = parse(row.get("reader").asText());
      writer = parse(row.get("writer").asText());
    } catch (RuntimeException refused) {
      row.put("refused", refused.toString());
      return;
    }
    try {
      SchemaCompatibility.SchemaPairCompatibility answer =
          SchemaCompatibility.checkReaderWriterCompatibility(reader, writer);
      row.put("compatible", answer.getType() == SchemaCompatibilityType.COMPATIBLE);
      ArrayNode findings = row.putArray("findings");
      for (Incompatibility one : answer.getResult().getIncompatibilities()) {
        ArrayNode finding = findings.addArray();
        finding.add(one.getType().name()).add(one.getLocation()).add(one.getMessage());
      }
    } catch (RuntimeException ambiguous) {
      row.put("ambiguous", true);
      return;
    }
    if (row.get("compatible").asBoolean()) {
      read(reader, writer, row);
    }
  }

  /** As a registry parses: defaults are not checked. */
  static Schema parse(String text) {
    Schema.Parser parser = new Schema.Parser();
    parser.setValidateDefaults(false);
    return parser.parse(text);
  }

  static void read(Schema reader, Schema writer, ObjectNode row) {
    Random random = new Random(7);
    int read = 0;
    for (int at = 0; at < DATA; at++) {
      byte[] bytes;
      try {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        BinaryEncoder encoder = EncoderFactory.get().binaryEncoder(out, null);
        new GenericDatumWriter<Object>(writer).write(datum(writer, random, 0), encoder);
        encoder.flush();
        bytes = out.toByteArray();
      } catch (Exception noDatum) {
        continue;
      }
      try {
        GenericDatumReader<Object> in = new GenericDatumReader<>(writer, reader);
        in.read(null, DecoderFactory.get().binaryDecoder(bytes, null));
        read++;
      } catch (Exception | StackOverflowError failed) {
        row.put("fails", HexFormat.of().formatHex(bytes));
        return;
      }
    }
    if (read > 0) {
      row.put("reads", true);
    }
  }

  static Object datum(Schema schema, Random random, int depth) {
    if (depth > DEPTH_MAX) {
      throw new IllegalStateException("no end");
    }
    int items = depth > 6 ? 0 : random.nextInt(3);
    switch (schema.getType()) {
      case NULL:
        return null;
      case BOOLEAN:
        return random.nextBoolean();
      case INT:
        return random.nextInt();
      case LONG:
        return random.nextLong();
      case FLOAT:
        return random.nextFloat();
      case DOUBLE:
        return random.nextDouble();
      case STRING:
        return "s" + random.nextInt(100);
      case BYTES:
        return ByteBuffer.wrap(bytes(random, random.nextInt(4)));
      case FIXED:
        return new GenericData.Fixed(schema, bytes(random, schema.getFixedSize()));
      case ENUM:
        List<String> symbols = schema.getEnumSymbols();
        return new GenericData.EnumSymbol(schema, symbols.get(random.nextInt(symbols.size())));
      case ARRAY:
        List<Object> list = new ArrayList<>();
        for (int at = 0; at < items; at++) {
          list.add(datum(schema.getElementType(), random, depth + 1));
        }
        return new GenericData.Array<>(schema, list);
      case MAP:
        Map<String, Object> map = new HashMap<>();
        for (int at = 0; at < items; at++) {
          map.put("k" + at, datum(schema.getValueType(), random, depth + 1));
        }
        return map;
      case UNION:
        List<Schema> types = schema.getTypes();
        return datum(types.get(random.nextInt(types.size())), random, depth + 1);
      default:
        GenericData.Record record = new GenericData.Record(schema);
        for (Schema.Field field : schema.getFields()) {
          record.put(field.pos(), datum(field.schema(), random, depth + 1));
        }
        return record;
    }
  }

  static byte[] bytes(Random random, int count) {
    byte[] bytes = new byte[count];
    random.nextBytes(bytes);
    return bytes;
  }
}
