// Compiled, not run: the types of docs/mongoose fit the ways in which a platform uses them.
import mongoose from "mongoose";
import type { SnapshotEvent, TrainingSnapshot } from "./types";

const TrainingSnapshots = mongoose.model<TrainingSnapshot>("TrainingSnapshot", new mongoose.Schema<TrainingSnapshot>({}));

export async function edit(id: string): Promise<string[]> {
  const found = await TrainingSnapshots.findById(id).orFail();
  found.tags.push("reviewed");
  await found.save();
  return found.messages.map((message) => `${message.sender} ${message.timestamp.toISOString()}`);
}

export function describe(entry: string): string {
  const event: SnapshotEvent = JSON.parse(entry);
  return event.type === "training.snapshot.completed"
    ? `${event.subject}: ${event.data.messageCount} messages`
    : `${event.subject}: ${event.data.error.code}`;
}
