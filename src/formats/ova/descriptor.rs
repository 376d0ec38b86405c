//! The OVF descriptor: the XML that describes the machine (DSP0243 1.1, sections 7 to 9).

use std::fmt::Write;

/// What starts the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Firmware {
    /// BIOS, what a descriptor without a word about it means.
    #[default]
    Bios,
    /// UEFI.
    Efi,
}

/// What the disk is attached to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Controller {
    /// LSI Logic parallel SCSI, which every product has.
    #[default]
    LsiLogic,
    /// VMware's paravirtual SCSI.
    ParaVirtual,
    /// AHCI (SATA).
    Ahci,
}

/// The machine's network card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkCard {
    /// VMware's paravirtual card.
    #[default]
    VmxNet3,
    /// Intel's 82545EM, which VirtualBox has too.
    E1000,
}

/// The machine that the descriptor asks for.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its name, and that of the files in the package: up to 80 letters, digits and `-._+ `.
    pub name: String,
    /// Processors.
    pub processors: u32,
    /// Memory in MiB.
    pub memory: u32,
    /// Firmware.
    pub firmware: Firmware,
    /// The disk's controller.
    pub controller: Controller,
    /// The network card.
    pub network: NetworkCard,
}

impl Machine {
    /// One processor, 1 GiB, BIOS, and the hardware that most products have.
    pub fn new(name: &str) -> Machine {
        Machine {
            name: name.to_owned(),
            processors: 1,
            memory: 1024,
            firmware: Firmware::default(),
            controller: Controller::default(),
            network: NetworkCard::default(),
        }
    }
}

/// The disk that the descriptor refers to.
#[derive(Clone, Copy, Debug)]
pub struct DiskFile<'a> {
    /// Name of the member.
    pub name: &'a str,
    /// Its length in bytes.
    pub length: u64,
    /// The disk's size in bytes.
    pub capacity: u64,
    /// Version of VMware's virtual hardware.
    pub hardware_version: u32,
}

/// The descriptor's text. Names have been checked: none needs quoting in XML.
pub fn encode(machine: &Machine, disk: &DiskFile<'_>) -> String {
    let (kind, subtype, controller) = match machine.controller {
        Controller::LsiLogic => (6, "lsilogic", "SCSI Controller"),
        Controller::ParaVirtual => (6, "VirtualSCSI", "SCSI Controller"),
        Controller::Ahci => (20, "vmware.sata.ahci", "SATA Controller"),
    };
    let card = match machine.network {
        NetworkCard::VmxNet3 => "VmxNet3",
        NetworkCard::E1000 => "E1000",
    };
    let mut items = String::new();
    // Elements of an item stand in alphabetical order, as the schema has them; numbers are of the CIM's
    // ResourceType: 3 processor, 4 memory, 6 SCSI, 20 other storage controller, 17 disk, 10 Ethernet.
    item(
        &mut items,
        &[
            ("AllocationUnits", "hertz * 10^6"),
            ("ElementName", "Processors"),
            ("InstanceID", "1"),
            ("ResourceType", "3"),
            ("VirtualQuantity", &machine.processors.to_string()),
        ],
    );
    item(
        &mut items,
        &[
            ("AllocationUnits", "byte * 2^20"),
            ("ElementName", "Memory"),
            ("InstanceID", "2"),
            ("ResourceType", "4"),
            ("VirtualQuantity", &machine.memory.to_string()),
        ],
    );
    item(
        &mut items,
        &[
            ("Address", "0"),
            ("ElementName", controller),
            ("InstanceID", "3"),
            ("ResourceSubType", subtype),
            ("ResourceType", &kind.to_string()),
        ],
    );
    item(
        &mut items,
        &[
            ("AddressOnParent", "0"),
            ("ElementName", "Hard Disk 1"),
            ("HostResource", "ovf:/disk/vmdisk1"),
            ("InstanceID", "4"),
            ("Parent", "3"),
            ("ResourceType", "17"),
        ],
    );
    item(
        &mut items,
        &[
            ("AddressOnParent", "7"),
            ("AutomaticAllocation", "true"),
            ("Connection", "VM Network"),
            ("ElementName", "Network Adapter 1"),
            ("InstanceID", "5"),
            ("ResourceSubType", card),
            ("ResourceType", "10"),
        ],
    );
    let firmware = match machine.firmware {
        Firmware::Bios => "bios",
        Firmware::Efi => "efi",
    };
    let (name, file, length, capacity) = (&machine.name, disk.name, disk.length, disk.capacity);
    let version = disk.hardware_version;
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" xmlns:vmw="http://www.vmware.com/schema/ovf">
  <References>
    <File ovf:href="{file}" ovf:id="file1" ovf:size="{length}"/>
  </References>
  <DiskSection>
    <Info>Virtual disks</Info>
    <Disk ovf:capacity="{capacity}" ovf:capacityAllocationUnits="byte" ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
  </DiskSection>
  <NetworkSection>
    <Info>Networks</Info>
    <Network ovf:name="VM Network">
      <Description>The network of the machine</Description>
    </Network>
  </NetworkSection>
  <VirtualSystem ovf:id="{name}">
    <Info>A virtual machine</Info>
    <Name>{name}</Name>
    <OperatingSystemSection ovf:id="101" vmw:osType="otherLinux64Guest">
      <Info>The operating system</Info>
      <Description>Linux, 64 bit</Description>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>Virtual hardware</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>{name}</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>vmx-{version:02}</vssd:VirtualSystemType>
      </System>
{items}      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="{firmware}"/>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
"#
    )
}

fn item(out: &mut String, elements: &[(&str, &str)]) {
    out.push_str("      <Item>\n");
    for (name, value) in elements {
        // Writing into a string cannot fail.
        let _ = writeln!(out, "        <rasd:{name}>{value}</rasd:{name}>");
    }
    out.push_str("      </Item>\n");
}
