/** The links of this host that lead to containers of given subnets, as the kernel has them. */
import { Kernel } from '../../kernel/kernel'
import { familyOf, type Prefix } from '../../model/address'
import { type BridgeUse, bridgesOf, useOf } from '../../plan/host/usage'

/** @throws {OverlayError} where the kernel does not tell */
export async function readBridgeUse(subnets: readonly Prefix[]): Promise<BridgeUse[]> {
  const kernel = await Kernel.open()
  try {
    const { links, addresses } = await kernel.hostNetwork()
    const uses: BridgeUse[] = []
    for (const bridge of bridgesOf(subnets, links, addresses)) {
      const neighbours = await kernel.neighbours(familyOf(bridge.subnet.address), bridge.link.index)
      uses.push(useOf(bridge, links, neighbours))
    }
    return uses
  } finally {
    kernel.close()
  }
}
