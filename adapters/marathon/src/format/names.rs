//! Words of which one must stand somewhere. Marathon reads them in any case and writes one.

/// An enum of words.
macro_rules! names {
    ($($(#[$doc:meta])* $name:ident { $first:ident = $first_word:literal, $($variant:ident = $word:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub(super) enum $name {
            #[default]
            $first,
            $($variant,)*
        }

        impl $name {
            const ALL: &'static [(&'static str, $name)] =
                &[($first_word, $name::$first), $(($word, $name::$variant),)*];

            /// The word.
            pub(super) fn word(self) -> &'static str {
                match self {
                    $name::$first => $first_word,
                    $($name::$variant => $word,)*
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Word;
                impl serde::de::Visitor<'_> for Word {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("one of ", $first_word, $(", ", $word,)*))
                    }
                    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<$name, E> {
                        let is_it = |(known, _): &&(&str, $name)| known.eq_ignore_ascii_case(word);
                        match $name::ALL.iter().find(is_it) {
                            Some((_, name)) => Ok(*name),
                            None => Err(E::unknown_variant(word, &[$first_word, $($word,)*])),
                        }
                    }
                }
                deserializer.deserialize_str(Word)
            }
        }
    )*};
}

names! {
    /// What runs a container; either may run an image, only MESOS may do without.
    Engine { Docker = "DOCKER", Mesos = "MESOS", }

    /// The older words for networks.
    DockerNetwork { Host = "HOST", Bridge = "BRIDGE", User = "USER", None = "NONE", }

    /// Today's words for networks.
    Mode { Host = "host", Bridge = "container/bridge", Container = "container", }

    /// Whether a container may write to a volume.
    Access { ReadWrite = "RW", ReadOnly = "RO", }

    /// What is spoken at a port.
    Protocol { Tcp = "tcp", Udp = "udp", Both = "udp,tcp", }

    /// What a check speaks. Marathon checks from its master, or (`MESOS_…`) from the agent; Muster
    /// always does so from the node of the instance.
    Check {
        Http = "HTTP",
        Https = "HTTPS",
        Tcp = "TCP",
        Command = "COMMAND",
        MesosTcp = "MESOS_TCP",
        MesosHttp = "MESOS_HTTP",
        MesosHttps = "MESOS_HTTPS",
    }

    /// Over which IP checks are made.
    IpProtocol { V4 = "IPv4", V6 = "IPv6", }

    /// Which instances leave first when there are too many.
    KillSelection { Youngest = "YOUNGEST_FIRST", Oldest = "OLDEST_FIRST", }
}

impl Check {
    /// Whether Mesos would check, and not Marathon.
    pub(super) fn is_of_mesos(self) -> bool {
        matches!(self, Check::MesosTcp | Check::MesosHttp | Check::MesosHttps)
    }

    /// Whether a request is made, and not only a connection.
    pub(super) fn is_http(self) -> bool {
        matches!(self, Check::Http | Check::Https | Check::MesosHttp | Check::MesosHttps)
    }
}
