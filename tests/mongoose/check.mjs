// Holds snapshots against the platform's Mongoose model, in strict mode: found, populated, validated, saved.
//
//   node check.mjs MONGO_URL DATABASE      exit code 0, and one line of JSON; 1 with the first fault
import mongoose from "mongoose";

const { Schema } = mongoose;
const { ObjectId } = Schema.Types;
const person = { organizationId: ObjectId, firstName: String, lastName: String, email: String };

mongoose.model("User", new Schema(person, { collection: "users" }));
mongoose.model("Contact", new Schema({ ...person, phoneNumber: String, channelType: String }, { collection: "contacts" }));

const message = new Schema(
  {
    id: { type: String, required: true },
    content: { type: String, validate: (text) => typeof text === "string" },
    sender: { type: String, required: true },
    senderType: { type: String, required: true },
    timestamp: { type: Date, required: true },
  },
  { _id: false, id: false, strict: "throw" },
);

const TrainingSnapshot = mongoose.model(
  "TrainingSnapshot",
  new Schema(
    {
      organizationId: { type: ObjectId, required: true },
      userId: { type: ObjectId, ref: "User" },
      contactId: { type: ObjectId, ref: "Contact", required: true },
      customerName: String,
      customerPhone: String,
      customerEmail: String,
      messages: { type: [message], validate: (all) => all.length > 0 },
      messageCount: { type: Number, required: true },
      snapshotDate: { type: Date, required: true },
      conversationStartDate: { type: Date, required: true },
      conversationEndDate: { type: Date, required: true },
      notes: String,
      tags: [String],
      quality: String,
      category: String,
      isArchived: { type: Boolean, required: true },
      requestId: { type: String, required: true },
      conversationId: ObjectId,
      trigger: { type: String, required: true },
      supersedes: ObjectId,
      contentHash: { type: String, required: true, match: /^[0-9a-f]{64}$/ },
    },
    { collection: "trainingsnapshots", strict: "throw", timestamps: true },
  ),
);

const [url, database] = process.argv.slice(2);
await mongoose.connect(url, { dbName: database });
try {
  let checked = 0;
  for await (const found of TrainingSnapshot.find().populate("userId contactId").cursor()) {
    if (!found.contactId?._id) throw new Error(`${found.id}: its contact is not populated`);
    await found.validate();
    const raw = await TrainingSnapshot.collection.findOne({ _id: found._id });
    await new TrainingSnapshot(raw).validate(); // strict "throw": any field that the model does not have
    if (raw.__v !== 0) throw new Error(`${found.id}: __v is ${raw.__v}`);
    if (raw.messageCount !== raw.messages.length) throw new Error(`${found.id}: messageCount is ${raw.messageCount}`);
    found.notes = "Edited with Mongoose";
    await found.save();
    checked += 1;
  }
  if (!checked) throw new Error("there are no snapshots");
  console.log(JSON.stringify({ checked, mongoose: mongoose.version }));
} catch (error) {
  console.error(String(error));
  process.exitCode = 1;
} finally {
  await mongoose.disconnect();
}
