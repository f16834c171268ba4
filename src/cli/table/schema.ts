/** The flag --schema of the commands that print a document. */
import { EXIT } from '../exit'

const DOCUMENTS = {
  status: async () => (await import('../../api/status.js')).statusSchema,
  peers: async () => (await import('../../api/documents.js')).peersDocumentSchema,
  lease: async () => (await import('../../api/documents.js')).leaseDocumentSchema,
  routes: async () => (await import('../../api/documents.js')).routesDocumentSchema,
  ping: async () => (await import('../../api/documents.js')).pingDocumentSchema,
}

/** Prints the JSON Schema of a command's document. @returns the exit code */
export async function printSchemaOf(name: keyof typeof DOCUMENTS): Promise<number> {
  const { printSchema } = await import('../show/output.js')
  await printSchema(await DOCUMENTS[name](), `overlayctl ${name} -o json`)
  return EXIT.healthy
}
